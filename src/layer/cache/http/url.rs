//! The name under which answers are kept: the address that was asked for, written in one way.

use crate::base::{Error, Kind, Result, sync::Arc};
use ::http::{HeaderMap, Request, Uri, header::HOST};

/// The address of a request; none where it is not clear whom it is for.
///
/// A request that names its host twice, and not the same, may be answered by either: what came of it must be given to
/// nobody else.
pub(crate) fn of<B>(request: &Request<B>) -> Option<Arc<str>> {
    let host = host(request.headers())?;
    let authority = request.uri().authority().map(|authority| authority.as_str());
    match (authority, host) {
        (Some(one), Some(other)) if !one.eq_ignore_ascii_case(other) => None,
        (one, other) => Some(key(request.uri(), one.or(other).unwrap_or_default())),
    }
}

fn host(headers: &HeaderMap) -> Option<Option<&str>> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) => Some(None),
        (Some(host), None) => host.to_str().ok().filter(|host| !host.contains(['/', '?', '#'])).map(Some),
        _ => None,
    }
}

fn key(uri: &Uri, authority: &str) -> Arc<str> {
    let scheme = uri.scheme_str().unwrap_or("http");
    let authority = authority.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
    let port = if scheme == "https" { ":443" } else { ":80" };
    let authority = authority.strip_suffix(port).unwrap_or(&authority);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let slash = if path.starts_with('/') { "" } else { "/" };
    format!("{scheme}://{authority}{slash}{path}").into()
}

/// An address as an operator writes it: whole, or a path of requests that name no host.
pub(super) fn parse(text: &str) -> Result<Arc<str>> {
    let uri: Uri = text.parse().map_err(|error| Error::new(Kind::Invalid, "not an address").because(error).at(text))?;
    Ok(key(&uri, uri.authority().map_or("", |authority| authority.as_str())))
}

/// What `Location` or `Content-Location` means, where it is of the same origin (RFC 9111 §4.4).
pub(super) fn same_origin(base: &str, reference: &str) -> Option<Arc<str>> {
    let reference = reference.trim().split('#').next().unwrap_or_default();
    let (scheme, rest) = base.split_once("://")?;
    let slash = rest.find('/')?;
    let (authority, path) = rest.split_at_checked(slash)?;
    let path = path.split('?').next().unwrap_or_default();
    let full = if reference.contains("://") {
        reference.to_owned()
    } else if reference.starts_with("//") {
        format!("{scheme}:{reference}")
    } else if reference.starts_with('/') {
        format!("{scheme}://{authority}{reference}")
    } else if reference.is_empty() || reference.starts_with('?') {
        format!("{scheme}://{authority}{path}{reference}")
    } else {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        format!("{scheme}://{authority}{}", without_dots(&format!("{folder}/{reference}")))
    };
    // an origin without a name is that of requests which name no host
    let there = match full.strip_prefix("http:///") {
        Some(path) => parse(&format!("/{path}")).ok()?,
        None => parse(&full).ok()?,
    };
    let origin = format!("{scheme}://{authority}/");
    there.starts_with(&origin).then_some(there)
}

fn without_dots(path: &str) -> String {
    let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => drop(kept.pop()),
            segment => kept.push(segment),
        }
    }
    let ends_in_folder = path.ends_with("/.") || path.ends_with("/..");
    let slash = if ends_in_folder && !kept.is_empty() { "/" } else { "" };
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    format!("/{}{slash}{query}", kept.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_one_name_however_it_is_written() {
        let name = |uri: &str, host: &[&str]| {
            let mut request = Request::get(uri);
            for host in host {
                request = request.header(HOST, *host);
            }
            of(&request.body(()).unwrap()).map(|url| url.to_string())
        };
        for (uri, host, expected) in [
            ("http://Shop/a?b=1", vec![], Some("http://shop/a?b=1")),
            ("/a?b=1", vec!["SHOP:80"], Some("http://shop/a?b=1")),
            ("https://user@shop:443/", vec![], Some("https://shop/")),
            ("http://shop", vec!["shop"], Some("http://shop/")),
            ("/a", vec![], Some("http:///a")),
            ("http://shop/a", vec!["evil"], None),
            ("/a", vec!["shop", "shop"], None),
            ("/a", vec!["shop/b"], None),
        ] {
            assert_eq!(name(uri, &host).as_deref(), expected, "{uri} {host:?}");
        }
        assert_eq!((&*parse("/a").unwrap(), &*parse("http://SHOP:80").unwrap()), ("http:///a", "http://shop/"));
        assert_eq!(parse("a b").unwrap_err().to_string(), "a b: invalid: not an address");
    }

    #[test]
    fn locations_count_where_they_are_of_the_same_origin() {
        for (reference, expected) in [
            ("/b", Some("http://shop/b")),
            ("c?x#y", Some("http://shop/a/c?x")),
            ("../c", Some("http://shop/c")),
            ("../../../..", Some("http://shop/")),
            ("./", Some("http://shop/a/")),
            ("?q", Some("http://shop/a/b?q")),
            ("", Some("http://shop/a/b")),
            ("HTTP://SHOP:80/b", Some("http://shop/b")),
            ("//shop/b", Some("http://shop/b")),
            ("http://other/b", None),
            ("https://shop/b", None),
            ("http://shop.evil/b", None),
            ("http://", None),
            ("a b", None),
        ] {
            assert_eq!(same_origin("http://shop/a/b?q=1", reference).as_deref(), expected, "{reference}");
        }
        assert_eq!(same_origin("http:///a", "/b").as_deref(), Some("http:///b"));
    }
}
