//! Sends requests and tells what came of them. Nothing is tried again here: that is the executor's to decide.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::{AuthError, Body};
use kube::config::KubeconfigError;
use kube::core::Status;
use serde::de::DeserializeOwned;

use super::requests::Call;
use crate::ports::{Port, PortError};

/// A request that is not answered in this time is given up; the executor waits twice as long.
const ANSWER: Duration = Duration::from_secs(30);

/// An answer of the API server.
#[derive(Debug)]
pub(super) struct Reply {
    /// Its status; 200 to 299 is success.
    pub(super) status: u16,
    /// Seconds after which to ask again, where it said so.
    pub(super) retry_after_s: Option<u64>,
    /// What it is for.
    what: String,
    body: Vec<u8>,
}

/// Sends a request; also refusals are replies.
///
/// # Errors
///
/// Where no answer came.
pub(super) async fn send(client: &Client, call: Call) -> Port<Reply> {
    let Call { right: _, request, what } = call;
    let lost = |code: String| PortError { transient: true, code, message: what.clone() };
    let exchange = async {
        let response = client.send(request.map(Body::from)).await.map_err(|error| lost(words(&error)))?;
        let status = response.status().as_u16();
        let after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let body = response.into_body().collect().await.map_err(|error| lost(words(&error)))?;
        Ok(Reply { status, retry_after_s: after, what: what.clone(), body: body.to_bytes().to_vec() })
    };
    match tokio::time::timeout(ANSWER, exchange).await {
        Ok(reply) => reply,
        Err(_) => Err(lost(format!("no answer for {} s", ANSWER.as_secs()))),
    }
}

impl Reply {
    /// What was asked for; an error where it was refused.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Port<T> {
        self.done()?;
        // By way of JSON's own value, as watches read: see there.
        let value: Result<serde_json::Value, _> = serde_json::from_slice(&self.body);
        value.and_then(serde_json::from_value).map_err(|error| PortError {
            transient: false,
            code: error.to_string(),
            message: format!("{}: the answer can't be read", self.what),
        })
    }

    /// An error where it was refused.
    pub(super) fn done(&self) -> Port<()> {
        if (200..300).contains(&self.status) {
            return Ok(());
        }
        let status = self.refusal();
        Err(refused(self.status, &status.message, &self.what))
    }

    /// Why it was refused.
    pub(super) fn refusal(&self) -> Status {
        let status: Option<Status> = serde_json::from_slice(&self.body).ok();
        // A proxy on the way answers in its own words.
        status.unwrap_or_else(|| Status {
            message: String::from_utf8_lossy(&self.body).lines().next().unwrap_or_default().to_owned(),
            ..Status::default()
        })
    }
}

/// The error that a status tells of. Credentials that have expired are renewed by the client, so 401 passes; and an API
/// server that was just started knows no roles yet and says that we `cannot`, which is no admission policy's word.
pub(super) fn refused(status: u16, message: &str, what: &str) -> PortError {
    let said = message.trim();
    let transient = match status {
        403 => said.contains(" cannot "),
        _ => matches!(status, 401 | 408 | 409 | 410 | 429 | 500 | 502 | 503 | 504),
    };
    let code = if said.is_empty() { status.to_string() } else { format!("{status} {said}") };
    PortError { transient, code, message: what.to_owned() }
}

/// An error of the client with its causes, of which only the last tells.
pub(super) fn words(error: &(dyn std::error::Error + 'static)) -> String {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    // Whatever wraps it repeats it.
    if let Some(told) = causes.find_map(without_secrets) {
        return told;
    }
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let told = cause.to_string();
        if matches!(cause.downcast_ref::<kube::Error>(), Some(kube::Error::Auth(_))) {
            text.push_str("no credentials");
        } else if !text.contains(&told) {
            let colon = if text.is_empty() { "" } else { ": " };
            text.push_str(&format!("{colon}{told}"));
        }
        next = cause.source();
    }
    text
}

/// What is told where an error repeats what it could not read, or of a program that gives credentials its arguments, its
/// environment or what it has printed.
fn without_secrets(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(KubeconfigError::Parse(error)) = error.downcast_ref() {
        return Some(error.without_snippet().to_string());
    }
    match error.downcast_ref()? {
        AuthError::AuthExecRun { cmd, out, .. } => {
            Some(format!("no credentials: `{}`, which gives them, failed: {}", program(cmd), out.status))
        }
        AuthError::AuthExecParse(_) | AuthError::ParseTokenKey(_) => {
            Some("no credentials: what the program that gives them has printed can't be read".to_owned())
        }
        _ => None,
    }
}

/// The program of a command as `Debug` writes it: variables come first, as `KEY="value"`, and whatever else is an argument is
/// in quotes.
fn program(command: &str) -> &str {
    let mut rest = command;
    while let Some((before, from)) = rest.split_once('"') {
        let slashes = |at: usize| from.bytes().take(at).rev().take_while(|byte| *byte == b'\\').count();
        let escaped = |at: usize| slashes(at) % 2 == 1;
        let end = from.match_indices('"').map(|(at, _)| at).find(|at| !escaped(*at)).unwrap_or(from.len());
        if !before.ends_with('=') {
            return from.get(..end).unwrap_or_default();
        }
        rest = from.get(end + 1..).unwrap_or_default();
    }
    command.split_whitespace().next().unwrap_or_default()
}

/// The error of a client that could not list or watch.
pub(super) fn of_client(error: &kube::Error, what: &str) -> PortError {
    match error {
        kube::Error::Api(status) => refused(status.code, &status.message, what),
        other => PortError { transient: true, code: words(other), message: what.to_owned() },
    }
}
