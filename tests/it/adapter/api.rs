//! One interface in front of an application that has another.

use http::{HeaderMap, Method, Request, StatusCode};
use seedpod::{
    Error, Result,
    adapter::{
        ApiAdapter,
        api::{Edits, Mapping, MappingLayer, Route},
    },
    http::{Body, Client, serve, text},
    net::{HostOptions, Net},
    pod::{ContainerSpec, Context, Pod, PodSpec},
};
use tower::{Layer, ServiceExt, service_fn};

fn mapping() -> Mapping {
    Mapping::new()
        .route(
            Route::new("POST", "/v2/orders")
                .to("POST", "/order.cgi?action=new")
                .request_header("x-client", "v2")
                .rename_request_header("x-request-id", "x-trace")
                .request_json(Edits::new().rename("customer.name", "cust_nm").add("currency", "EUR"))
                .status(200, 201)
                .response_header("cache-control", "no-store")
                .remove_response_header("x-powered-by")
                .response_json(Edits::new().rename("order_no", "id"))
                .failure_json(Edits::new().rename("err", "error.message")),
        )
        .route(Route::new("GET", "/v2/orders/{id}").to("GET", "/order.cgi?no={id}").rename_query("q", "search"))
}

/// Says what it was asked.
async fn echo(request: Request<Body>) -> Result<http::Response<Body>> {
    let (parts, body) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
    let said = format!(
        "{} {} client={} trace={} length={} body={}",
        parts.method,
        parts.uri,
        header("x-client"),
        header("x-trace"),
        header("content-length"),
        body.text().await?
    );
    let mut answer = text(200, said);
    answer.headers_mut().insert("x-powered-by", "perl".parse()?);
    Ok(answer)
}

async fn ask(layer: &MappingLayer, request: Request<Body>) -> (StatusCode, HeaderMap, String) {
    let answer = layer.layer(service_fn(echo)).oneshot(request).await.unwrap();
    let (parts, body) = answer.into_parts();
    (parts.status, parts.headers, body.text().await.unwrap())
}

fn post(kind: &str, body: &'static str) -> Request<Body> {
    let request =
        Request::post("http://shop/v2/orders?dry=1").header("content-type", kind).header("x-request-id", "r1");
    request.body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn a_request_reaches_the_application_in_its_own_words() {
    let layer = mapping().layer().unwrap();
    let body = r#"{"customer": {"name": "Ada"}, "total": 10.50}"#;
    let (status, headers, said) = ask(&layer, post("application/json; charset=utf-8", body)).await;
    assert_eq!(
        said,
        r#"POST /order.cgi?action=new&dry=1 client=v2 trace=r1 length=65 body={"customer":{},"total":10.50,"cust_nm":"Ada","currency":"EUR"}"#
            .replace("length=65", &format!("length={}", r#"{"customer":{},"total":10.50,"cust_nm":"Ada","currency":"EUR"}"#.len()))
    );
    assert_eq!((status, headers["cache-control"].to_str().unwrap()), (StatusCode::CREATED, "no-store"));
    assert!(!headers.contains_key("x-powered-by"));
    let (_, _, said) = ask(&layer, Request::get("/v2/orders/7?q=x&no=8").body(Body::empty()).unwrap()).await;
    assert!(said.starts_with("GET /order.cgi?no=7&search=x client=- "), "{said}");
}

#[tokio::test]
async fn what_cannot_be_mapped_is_refused_with_its_reason() {
    let layer = mapping().layer().unwrap();
    let get = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    for (request, status, told) in [
        (post("application/json", "{\"a\":"), 400, "line 1 column 5"),
        (post("application/json", r#"{"customer": 7}"#), 201, r#""customer":7"#),
        (post("text/plain", "hello"), 415, "JSON is needed"),
        (get("/v2/orders/.."), 400, "leads up"),
        (get("/v2/orders/%2e%2E"), 400, "leads up"),
        (get("/order.cgi?no=7"), 404, "no such path"),
        (Request::delete("/v2/orders").body(Body::empty()).unwrap(), 405, "POST alone"),
        (Request::head("/v2/orders").body(Body::empty()).unwrap(), 405, "POST alone"),
    ] {
        let (answer, headers, said) = ask(&layer, request).await;
        assert_eq!(answer.as_u16(), status, "{said}");
        assert!(said.contains(told), "{said}");
        assert_eq!(headers.contains_key("allow"), status == 405);
    }
    let long = Request::post("/v2/orders").header("content-type", "application/json");
    let long = long.body(Body::from(vec![b' '; Body::LIMIT + 1])).unwrap();
    assert_eq!(ask(&layer, long).await.0, StatusCode::PAYLOAD_TOO_LARGE);
    let open = mapping().pass_others().layer().unwrap();
    assert!(ask(&open, get("/order.cgi?no=7")).await.2.starts_with("GET /order.cgi?no=7 "));
}

#[tokio::test]
async fn answers_are_edited_by_their_status_and_passed_where_they_are_no_json() {
    let layer = mapping().layer().unwrap();
    let say = |status: u16, kind: &'static str, body: &'static str| {
        service_fn(move |request: Request<Body>| async move {
            assert_eq!(request.headers()["accept-encoding"], "identity");
            let mut answer = text(status, body);
            answer.headers_mut().insert("content-type", kind.parse().unwrap());
            answer.headers_mut().insert("content-length", body.len().into());
            answer.headers_mut().insert("digest", "x".parse().unwrap());
            Ok::<_, Error>(answer)
        })
    };
    for (status, kind, body, told) in [
        (200, "application/json", r#"{"order_no": 12345678901234567890}"#, (201, r#"{"id":12345678901234567890}"#)),
        (409, "application/problem+json", r#"{"err": "sold out"}"#, (409, r#"{"error":{"message":"sold out"}}"#)),
        (500, "text/html", "<h1>oops</h1>", (500, "<h1>oops</h1>")),
        (200, "application/json", "{oops", (502, "the application's answer cannot be mapped\n")),
        (200, "application/json", "", (201, "")),
    ] {
        let answer = layer.layer(say(status, kind, body)).oneshot(post("application/json", "{}")).await.unwrap();
        let length = answer.headers().get("content-length").map(|length| length.to_str().unwrap().to_owned());
        let code = answer.status().as_u16();
        let said = answer.into_body().text().await.unwrap();
        assert_eq!((code, &*said), told, "{body}");
        assert!(length.is_none_or(|length| length == said.len().to_string()), "{body}");
    }
}

#[tokio::test]
async fn an_answer_that_is_compressed_or_too_long_cannot_be_mapped() {
    let layer = mapping().layer().unwrap();
    for (coding, length) in [("gzip", 10), ("", Body::LIMIT + 1)] {
        let application = service_fn(move |_: Request<Body>| async move {
            let mut answer = text(200, vec![b' '; length]);
            answer.headers_mut().insert("content-type", "application/json".parse().unwrap());
            if !coding.is_empty() {
                answer.headers_mut().insert("content-encoding", coding.parse().unwrap());
            }
            Ok::<_, Error>(answer)
        });
        let answer = layer.layer(application).oneshot(post("application/json", "{}")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_GATEWAY);
        assert!(!answer.headers().contains_key("content-encoding"));
    }
}

#[tokio::test(start_paused = true)]
async fn an_application_that_does_not_answer_is_a_503() -> Result {
    let net = Net::memory().build();
    let api = ContainerSpec::new("api", ApiAdapter::new(80, 8080, mapping().layer()?));
    let pod = Pod::start(PodSpec::new("orders").container(api), &net)?;
    pod.until(|status| status.ready.holds).await;
    let client = Client::new(&net.host(HostOptions::default())?);
    assert_eq!(client.get(&format!("http://{}/v2/orders/7", pod.ip())).await?.status(), 503);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn the_container_stands_in_front_of_an_unaware_application() -> Result {
    async fn app(context: Context) -> Result {
        serve(context.listen(8080).await?, service_fn(echo)).until(context.stopped()).await
    }
    let net = Net::memory().build();
    let spec = PodSpec::new("orders")
        .container(ContainerSpec::new("api", ApiAdapter::new(80, 8080, mapping().layer()?)))
        .container(ContainerSpec::new("app", app));
    let pod = Pod::start(spec, &net)?;
    pod.until(|status| status.ready.holds).await;
    let host = net.host(HostOptions::default())?;
    for client in [Client::new(&host), Client::new(&host).http2()] {
        let answer = client.get(&format!("http://{}/v2/orders/7", pod.ip())).await?;
        assert!(answer.into_body().text().await?.starts_with("GET /order.cgi?no=7 "));
        let request = Request::builder().method(Method::HEAD).uri(format!("http://{}/v2/orders/7", pod.ip()));
        assert_eq!(client.request(request.body(Body::empty())?).await?.status(), 200);
        let body = r#"{"customer":{"name":"Ada"}}"#;
        let request =
            Request::post(format!("http://{}/v2/orders", pod.ip())).header("content-type", "application/json");
        let answer = client.request(request.body(Body::from(body))?).await?;
        assert_eq!(answer.status(), 201);
        assert!(answer.into_body().text().await?.contains("cust_nm"));
    }
    Ok(())
}

#[test]
fn all_mistakes_are_told_at_once_with_their_route() {
    let error = Mapping::new()
        .route(Route::new("GET", "/a/{id}").to("FETCH IT", "/b/{no}").status(200, 42))
        .route(Route::new("GET", "b").response_header("x y", "1").request_header("content-length", "1"))
        .route(Route::new("GET", "/c").response_json(Edits::new().rename("a.*", "b.*")))
        .layer()
        .unwrap_err();
    let told = error.to_string();
    for mistake in [
        "GET /a/{id}: \"FETCH IT\" is not a method of HTTP",
        "GET /a/{id}: target \"/b/{no}\" has a name that the path has not: \"no\"",
        "GET /a/{id}: 200 or 42 is not a status",
        "GET b: path \"b\" does not begin with a slash",
        "GET b: \"x y\" is not a header's name",
        "GET b: the header \"content-length\" is not to be changed",
        "GET /c: JSON paths \"a.*\" and \"b.*\" differ",
    ] {
        assert!(told.contains(mistake), "{told}");
    }
}
