//! A check by what a page of the application says.

use crate::{
    base::{Error, Kind, Result},
    http::Body,
    pod::{Context, Probe},
};
use http::Request;
use std::time::Duration;

/// How much of a page is read.
const PAGE_BYTES_MAX: usize = 64 * 1024;

/// An application with a page of its own about its health: what the page says is judged, its status and its text, as far as
/// 64 KiB. What is wrong is told by an error, or by a text.
///
/// ```
/// use seedpod::adapter::health;
/// // 200 whatever happens, and the truth in the text
/// let app = health::answers(8080, "/status", |status, text| match text.contains("\"database\":\"up\"") {
///     true if status == 200 => Ok(()),
///     _ => Err(format!("{status} {text}").into()),
/// });
/// ```
pub fn answers<J>(port: u16, path: &str, judge: J) -> Probe
where
    J: Fn(u16, &str) -> Result<(), crate::BoxError> + Send + Sync + 'static,
{
    let url = format!("http://localhost:{port}/{}", path.trim_start_matches('/'));
    let judge = std::sync::Arc::new(judge);
    Probe::function(move |context: Context| {
        let (url, judge) = (url.clone(), judge.clone());
        async move {
            let client = crate::http::Client::new(&context.host().exempt()).idle(0, Duration::ZERO);
            let answer = client.request(Request::get(&url).body(Body::empty())?).await?;
            let status = answer.status().as_u16();
            let text = answer.into_body().bytes_within(PAGE_BYTES_MAX).await?;
            judge(status, &String::from_utf8_lossy(&text)).map_err(|error| Error::adopt(error, Kind::Failed).at(url))
        }
    })
}
