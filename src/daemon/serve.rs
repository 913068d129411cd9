//! The sockets of a service: metrics and health over HTTP, and for commands of whoever has no rights on the GPUs its status
//! and plan. Nothing that is served changes anything.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode, header};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::agenda::Cause;
use super::board::Board;
use super::systemd;
use super::wakes::Wakes;
use crate::host::clock::uptime;

/// So many are answered at once; others are turned away.
const MOST: usize = 32;
/// Whoever says nothing for so long is not waited for.
const SILENCE: Duration = Duration::from_secs(2);
/// The text format of metrics.
const METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where a service can be asked.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    /// Metrics and health.
    pub metrics: Option<SocketAddr>,
    /// The same, and status and plan. Whoever is on the machine may ask.
    pub socket: Option<PathBuf>,
}

/// Serves what the board says for ever, on a thread of its own, and wakes the service where somebody asks it to look (SIGHUP).
///
/// # Errors
///
/// Where an address or a path can't be had, with its name.
pub fn begin(sockets: &Sockets, wakes: &Arc<Wakes>, board: &Arc<Board>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let named = |name: String| move |error: io::Error| io::Error::new(error.kind(), format!("{name}: {error}"));
    let inside = runtime.enter();
    let tcp = match sockets.metrics {
        Some(address) => {
            let listener = std::net::TcpListener::bind(address).map_err(named(address.to_string()))?;
            listener.set_nonblocking(true)?;
            Some(TcpListener::from_std(listener)?)
        }
        None => None,
    };
    let unix = match &sockets.socket {
        Some(path) => Some(listen(path).map_err(named(path.display().to_string()))?),
        None => None,
    };
    let mut hangup = signal(SignalKind::hangup())?;
    drop(inside);
    let (board, wakes) = (Arc::clone(board), Arc::clone(wakes));
    std::thread::Builder::new().name("sockets".to_owned()).spawn(move || {
        runtime.block_on(async move {
            // Who comes over the network must not keep out who is on the machine.
            let (free, local) = (Arc::new(Semaphore::new(MOST)), Arc::new(Semaphore::new(MOST)));
            let over_tcp = async {
                let Some(listener) = tcp else { return };
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => answer(stream, &board, &free, false),
                        Err(error) => failed(&error).await,
                    }
                }
            };
            let over_unix = async {
                let Some(listener) = unix else { return };
                loop {
                    match listener.accept().await {
                        Ok((stream, _)) => answer(stream, &board, &local, true),
                        Err(error) => failed(&error).await,
                    }
                }
            };
            let asked = async {
                while hangup.recv().await.is_some() {
                    systemd::reloading();
                    wakes.wake(Cause::Asked);
                }
            };
            tokio::join!(over_tcp, over_unix, asked)
        })
    })?;
    Ok(())
}

/// The socket of an earlier life is replaced, one that somebody listens at is not.
fn listen(path: &PathBuf) -> io::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another service of this node listens there"));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    // It tells what `nvidia-smi` and `kubectl` tell, and changes nothing.
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Too many open files pass.
async fn failed(error: &io::Error) {
    tracing::debug!("a connection could not be taken: {error}");
    tokio::time::sleep(Duration::from_millis(100)).await;
}

fn answer<S>(stream: S, board: &Arc<Board>, free: &Arc<Semaphore>, local: bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Too many at once: whoever comes now may come again.
    let Ok(turn) = Arc::clone(free).try_acquire_owned() else { return };
    let board = Arc::clone(board);
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let board = Arc::clone(&board);
            async move { Ok::<_, Infallible>(respond(&request, &board, local)) }
        });
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).header_read_timeout(SILENCE).keep_alive(false);
        // Whoever went away is not told.
        let _ = tokio::time::timeout(SILENCE * 5, server.serve_connection(TokioIo::new(stream), service)).await;
        drop(turn);
    });
}

fn respond<B>(request: &Request<B>, board: &Board, local: bool) -> Response<String> {
    let text = |status: StatusCode, kind: &'static str, body: String| {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        response
    };
    const PLAIN: &str = "text/plain; charset=utf-8";
    const JSON: &str = "application/json";
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, PLAIN, "nothing is changed here\n".to_owned());
    }
    let document = |kind, of: fn(super::board::Documents) -> String| match board.documents() {
        Some(documents) => text(StatusCode::OK, kind, of(documents)),
        None => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, "the node was not looked at yet\n".to_owned()),
    };
    match request.uri().path() {
        "/metrics" => text(StatusCode::OK, METRICS, board.metrics.text()),
        "/healthz" => match board.lives(uptime()) {
            Ok(()) => text(StatusCode::OK, PLAIN, "ok\n".to_owned()),
            Err(still) => {
                let why = format!("its loop has not moved on for {} s\n", still.as_secs());
                text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, why)
            }
        },
        "/readyz" => match board.ready() {
            Ok(()) => text(StatusCode::OK, PLAIN, "ok\n".to_owned()),
            Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, PLAIN, format!("{why}\n")),
        },
        "/v1/status" if local => match request.uri().query() {
            Some("output=json") => document(JSON, |documents| documents.json),
            Some("output=wide") => document(PLAIN, |documents| documents.wide),
            _ => document(PLAIN, |documents| documents.status),
        },
        "/v1/plan" if local => document(JSON, |documents| documents.plan),
        _ => text(StatusCode::NOT_FOUND, PLAIN, "there is nothing here\n".to_owned()),
    }
}
