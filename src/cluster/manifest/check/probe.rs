//! Probes and hooks.

use super::{
    super::{mistake::Report, path::Path},
    container::one_of,
    names,
};
use crate::cluster::object::{Container, ExecAction, Handler, HttpGetAction, Probe, TcpSocketAction};

pub(super) fn all(container: &Container, path: &Path<'_>, report: &mut Report<'_>) {
    for (name, of) in [
        ("livenessProbe", &container.liveness_probe),
        ("readinessProbe", &container.readiness_probe),
        ("startupProbe", &container.startup_probe),
    ] {
        let Some(of) = of else { continue };
        let path = path.key(name);
        probe(of, &path, report);
        let readiness = name == "readinessProbe";
        let once = readiness || of.success_threshold.is_none_or(|count| count == 1);
        let kind = name.trim_end_matches("Probe");
        report.ensure(once, &path.key("successThreshold"), &format!("must be 1 for a {kind} probe"));
        let grace = path.key("terminationGracePeriodSeconds");
        report.ensure(!readiness || !report.has(&grace), &grace, "must not be set: a readiness probe kills nothing");
    }
    if let Some(lifecycle) = &container.lifecycle {
        let path = path.key("lifecycle");
        for (name, of) in [("postStart", &lifecycle.post_start), ("preStop", &lifecycle.pre_stop)] {
            if let Some(of) = of {
                handler(of, &path.key(name), report);
            }
        }
    }
}

fn probe(probe: &Probe, path: &Path<'_>, report: &mut Report<'_>) {
    let members = [
        ("exec", probe.exec.is_some()),
        ("httpGet", probe.http_get.is_some()),
        ("tcpSocket", probe.tcp_socket.is_some()),
        ("grpc", probe.grpc.is_some()),
    ];
    one_of(&members, path, report);
    actions(probe.exec.as_ref(), probe.http_get.as_ref(), probe.tcp_socket.as_ref(), path, report);
    if let Some(grpc) = &probe.grpc {
        names::port(grpc.port, &path.key("grpc").key("port"), report);
    }
    for (field, number) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("periodSeconds", probe.period_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        names::not_negative(number.unwrap_or(0), &path.key(field), report);
    }
    let grace = probe.termination_grace_period_seconds.is_none_or(|seconds| seconds > 0);
    report.ensure(grace, &path.key("terminationGracePeriodSeconds"), "must be at least 1");
}

fn handler(handler: &Handler, path: &Path<'_>, report: &mut Report<'_>) {
    let members = [
        ("exec", handler.exec.is_some()),
        ("httpGet", handler.http_get.is_some()),
        ("tcpSocket", handler.tcp_socket.is_some()),
        ("sleep", handler.sleep.is_some()),
    ];
    one_of(&members, path, report);
    actions(handler.exec.as_ref(), handler.http_get.as_ref(), handler.tcp_socket.as_ref(), path, report);
    if let Some(sleep) = &handler.sleep {
        names::not_negative(sleep.seconds, &path.key("sleep").key("seconds"), report);
    }
}

fn actions(
    exec: Option<&ExecAction>,
    http: Option<&HttpGetAction>,
    tcp: Option<&TcpSocketAction>,
    path: &Path<'_>,
    report: &mut Report<'_>,
) {
    if let Some(exec) = exec {
        report.required(!exec.command.is_empty(), &path.key("exec").key("command"));
    }
    if let Some(http) = http {
        let path = path.key("httpGet");
        names::port_or_name(http.port.as_ref(), &path.key("port"), report);
        let scheme = http.scheme.as_deref().is_none_or(|scheme| matches!(scheme, "HTTP" | "HTTPS"));
        report.ensure(scheme, &path.key("scheme"), "must be HTTP or HTTPS");
        let headers = path.key("httpHeaders");
        for (index, header) in http.http_headers.iter().enumerate() {
            let path = headers.index(index);
            let name = path.key("name");
            let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            report.required(!header.name.is_empty(), &name);
            report.ensure(header.name.bytes().all(token), &name, "must be the name of an HTTP header");
        }
    }
    if let Some(tcp) = tcp {
        names::port_or_name(tcp.port.as_ref(), &path.key("tcpSocket").key("port"), report);
    }
}
