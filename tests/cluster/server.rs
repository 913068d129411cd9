//! A mocked API server: serves what is in its store, records what is asked of it, and fails as it is told to.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};

use crate::applied::{APPLY, STRATEGIC, apply};
use crate::store::{KINDS, Kind, Store, Stream};

/// API group, resource with its subresource, and verb.
pub(crate) type Right = (String, String, String);

/// A request that neither lists nor watches, and how it was answered.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// `PATCH /api/v1/nodes/n`, with the query.
    pub(crate) line: String,
    pub(crate) kind: Option<String>,
    pub(crate) body: String,
    /// `None`: it was not.
    pub(crate) status: Option<u16>,
}

/// How a request fails.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is refused with a Status.
    Refused(u16, &'static str),
    /// And told when to try again.
    Later(u16, &'static str, u32),
    /// A proxy answers in its own words.
    Proxy(u16, &'static str),
    /// The connection breaks.
    Lost,
    /// It is answered as ever, but late.
    Slow(Duration),
}

#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) store: Store,
    /// What was asked, in this order, but for lists and watches.
    pub(crate) asked: Vec<Asked>,
    /// Lists and watches: `LIST pods`, `WATCH pods 104`.
    pub(crate) looked: Vec<String>,
    /// Whoever asks this (a part of method, path and query) so many times more.
    pub(crate) faults: Vec<(&'static str, u32, Fault)>,
    /// It takes no connections.
    pub(crate) away: bool,
    /// Whoever watches does not hear of pods that are deleted.
    pub(crate) silent: bool,
    /// What was needed so far.
    pub(crate) needed: BTreeSet<Right>,
    /// Whoever needs more is refused.
    pub(crate) granted: Option<BTreeSet<Right>>,
}

/// The server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server(Arc<Mutex<State>>);

/// An answer, and when it comes.
type Answer = io::Result<(Duration, Response<Stream>)>;

impl Server {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// A client; to be called within tokio.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    pub(crate) fn put(&self, resource: &str, object: Value) {
        self.lock().store.put(resource, object);
    }

    pub(crate) fn edit(&self, resource: &str, namespace: &str, name: &str, with: impl FnOnce(&mut Value)) {
        self.lock().store.edit(resource, namespace, name, with);
    }

    /// Whoever asks something with this part fails so many times.
    pub(crate) fn fail(&self, part: &'static str, times: u32, fault: Fault) {
        self.lock().faults.push((part, times, fault));
    }

    /// The server goes away, and all connections with it, or comes back.
    pub(crate) fn away(&self, away: bool) {
        let mut state = self.lock();
        state.away = away;
        if away {
            state.store.drop_all_watches();
        }
    }

    /// Forgets what was asked so far.
    pub(crate) fn forget_asked(&self) {
        let mut state = self.lock();
        state.asked.clear();
        state.looked.clear();
    }

    /// What was asked: method, path and status.
    pub(crate) fn lines(&self) -> Vec<String> {
        let told = |asked: &Asked| match asked.status {
            Some(status) => format!("{} {status}", asked.line),
            None => asked.line.clone(),
        };
        self.lock().asked.iter().map(told).collect()
    }

    /// The same with bodies; the time is left out.
    pub(crate) fn transcript(&self) -> String {
        let mut text = String::new();
        for (line, asked) in self.lines().iter().zip(&self.lock().asked) {
            text.push_str(line);
            text.push('\n');
            if let Some(kind) = &asked.kind {
                text.push_str(&format!("{kind}\n"));
            }
            if !asked.body.is_empty() {
                text.push_str(&format!("{}\n", timeless(&asked.body)));
            }
        }
        text
    }
}

/// A text with `NOW` for every time of RFC 3339.
pub(crate) fn timeless(text: &str) -> String {
    let mut rest = text;
    let mut made = String::new();
    while let Some(at) = rest.find("20") {
        let (before, from) = rest.split_at(at);
        made.push_str(before);
        let end = from.find('Z').filter(|end| (20..32).contains(end));
        let time = end.filter(|end| from[..=*end].parse::<jiff::Timestamp>().is_ok());
        made.push_str(if time.is_some() { "NOW" } else { "20" });
        rest = &from[time.map_or(2, |end| end + 1)..];
    }
    made + rest
}

/// A path as the API server takes it apart.
struct Path {
    group: String,
    resource: String,
    namespace: String,
    name: Option<String>,
    sub: Option<String>,
}

impl Path {
    fn of(path: &str) -> Self {
        let mut parts = path.trim_start_matches('/').split('/').map(str::to_owned).peekable();
        let group = match parts.next().as_deref() {
            Some("apis") => parts.next().unwrap(),
            _ => String::new(),
        };
        let _version = parts.next().unwrap();
        let namespaced = parts.next_if(|part| part == "namespaces").is_some();
        let namespace = if namespaced { parts.next().unwrap() } else { String::new() };
        Path { group, namespace, resource: parts.next().unwrap(), name: parts.next(), sub: parts.next() }
    }
}

/// Whether a path lists the kinds of an API version.
fn is_discovery(path: &str) -> bool {
    let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
    matches!(parts[..], ["api", _] | ["apis", _, _])
}

/// What a request takes, as the API server's authorizer sees it.
pub(crate) fn right(method: &str, uri: &http::Uri) -> Right {
    if is_discovery(uri.path()) {
        return (String::new(), String::new(), "get".to_owned());
    }
    let Path { group, resource, name, sub, .. } = Path::of(uri.path());
    let verb = match method {
        "GET" if name.is_some() => "get",
        "GET" if query(uri).contains_key("watch") => "watch",
        "GET" => "list",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        "DELETE" => "delete",
        other => panic!("{other}"),
    };
    let resource = sub.map_or(resource.clone(), |sub| format!("{resource}/{sub}"));
    (group, resource, verb.to_owned())
}

fn query(uri: &http::Uri) -> BTreeMap<String, String> {
    let pairs = uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn reply(status: u16, body: &Value) -> Response<Stream> {
    Response::builder().status(status).body(Stream::whole(body.to_string())).unwrap()
}

fn refusal(status: u16, message: &str) -> Response<Stream> {
    let body = json!({
        "apiVersion": "v1", "kind": "Status", "status": "Failure", "message": message, "reason": "Told", "code": status
    });
    reply(status, &body)
}

/// Owners are merged by their UIDs.
fn keep_owners(object: &mut Value, before: Vec<Value>) {
    let Some(new) = object["metadata"]["ownerReferences"].as_array_mut() else { return };
    let theirs = before.into_iter().filter(|owner| new.iter().all(|new| new["uid"] != owner["uid"]));
    *new = theirs.chain(new.clone()).collect();
}

/// RFC 7386.
fn merge(into: &mut Value, patch: &Value) {
    let Some(changes) = patch.as_object() else {
        into.clone_from(patch);
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    let object = into.as_object_mut().unwrap();
    for (key, value) in changes {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key).or_insert(Value::Null), value);
        }
    }
}

impl State {
    fn answer(&mut self, request: &Request<String>) -> Answer {
        let (method, uri) = (request.method().as_str(), request.uri());
        let line = format!("{method} {uri}");
        let right = right(method, uri);
        let looks = matches!(right.2.as_str(), "list" | "watch");
        self.needed.insert(right.clone());
        let fault = self.faults.iter_mut().find(|(part, times, _)| *times > 0 && line.contains(part));
        let fault = fault.map(|(_, times, fault)| {
            *times -= 1;
            fault.clone()
        });
        let late = if let Some(Fault::Slow(late)) = fault { late } else { Duration::ZERO };
        let forbidden = self.granted.as_ref().is_some_and(|granted| !granted.contains(&right));
        let answer = match fault {
            _ if self.away => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused")),
            Some(Fault::Lost) => Err(io::Error::new(io::ErrorKind::ConnectionReset, "connection reset by peer")),
            Some(Fault::Refused(status, message)) => Ok(refusal(status, message)),
            Some(Fault::Later(status, message, after)) => {
                let mut refused = refusal(status, message);
                refused.headers_mut().insert("retry-after", after.into());
                Ok(refused)
            }
            Some(Fault::Proxy(status, text)) => {
                Ok(Response::builder().status(status).body(Stream::whole(text.to_owned())).unwrap())
            }
            _ if forbidden => Ok(refusal(403, "it is forbidden")),
            Some(Fault::Slow(_)) | None => Ok(self.serve(request, &right.2)),
        };
        let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
        if looks {
            let since = query(uri).get("resourceVersion").cloned();
            let words = [Some(right.2.to_uppercase()), Some(right.1), since];
            self.looked.push(words.into_iter().flatten().collect::<Vec<_>>().join(" "));
        } else {
            let kind = request.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned());
            self.asked.push(Asked { line, kind, body: request.body().clone(), status });
        }
        answer.map(|answer| (late, answer))
    }

    fn serve(&mut self, request: &Request<String>, verb: &str) -> Response<Stream> {
        if is_discovery(request.uri().path()) {
            let api = request.uri().path().trim_start_matches("/apis/").trim_start_matches("/api/");
            let of = KINDS.iter().filter(|kind| kind.api == api);
            let plural = |kind: &Kind| json!({ "name": kind.resource(), "kind": kind.name, "namespaced": true });
            let status = |kind: &Kind| json!({ "name": format!("{}/status", kind.resource()), "kind": kind.name, "namespaced": true });
            let resources: Vec<Value> = of.flat_map(|kind| [status(kind), plural(kind)]).collect();
            return match resources.is_empty() {
                true => refusal(404, "the server could not find the requested resource"),
                false => reply(200, &json!({ "kind": "APIResourceList", "resources": resources })),
            };
        }
        let (path, query) = (Path::of(request.uri().path()), query(request.uri()));
        let body: Value = serde_json::from_str(request.body()).unwrap_or_default();
        let (resource, namespace) = (path.resource.as_str(), path.namespace.as_str());
        if resource != "events" {
            assert!(KINDS.iter().any(|kind| kind.resource() == resource), "{resource}");
        }
        let number = |key: &str| query.get(key).and_then(|n| n.parse::<u64>().ok());
        let dry = query.contains_key("dryRun") || !body["dryRun"].is_null();
        match (verb, path.sub.as_deref(), path.name.as_deref()) {
            ("list", ..) => {
                let at = |key: &str| number(key).and_then(|n| usize::try_from(n).ok());
                let limit = at("limit").unwrap_or(usize::MAX / 2);
                let mut page = self.store.list(resource, limit, at("continue").unwrap_or(0));
                if let Some(field) = query.get("fieldSelector") {
                    let (field, value) = field.split_once("%3D").unwrap();
                    let pointer = format!("/{}", field.replace('.', "/"));
                    let is = |object: &Value| object.pointer(&pointer).is_some_and(|is| is == value);
                    page["items"].as_array_mut().unwrap().retain(is);
                }
                reply(200, &page)
            }
            ("watch", ..) => match self.store.watch(resource, number("resourceVersion").unwrap_or(0)) {
                Some(stream) => Response::new(stream),
                None => refusal(410, "too old resource version"),
            },
            ("get", None, Some(name)) => match self.store.get(resource, namespace, name) {
                Some(object) => reply(200, object),
                None => refusal(404, &format!("{resource} \"{name}\" not found")),
            },
            ("patch", None, Some(name)) if request.headers()["content-type"] == APPLY => {
                let object = self.store.get(resource, namespace, name).cloned();
                match apply(object, &body, &query["fieldManager"]) {
                    Ok(made) if dry => reply(200, &made),
                    Ok(made) => reply(200, &self.store.put(resource, made)),
                    Err(status) => reply(u16::try_from(status["code"].as_u64().unwrap()).unwrap(), &status),
                }
            }
            ("patch", None, Some(name)) => {
                let Some(object) = self.store.get(resource, namespace, name).cloned() else {
                    return refusal(404, &format!("{resource} \"{name}\" not found"));
                };
                let (wanted, is) = (&body["metadata"]["resourceVersion"], &object["metadata"]["resourceVersion"]);
                if !wanted.is_null() && wanted != is {
                    return refusal(
                        409,
                        "the object has been modified; please apply your changes to the latest version",
                    );
                }
                let mut made = object;
                let owners = made["metadata"]["ownerReferences"].as_array().cloned().unwrap_or_default();
                merge(&mut made, &body);
                if request.headers()["content-type"] == STRATEGIC {
                    keep_owners(&mut made, owners);
                }
                reply(200, &self.store.put(resource, made))
            }
            ("delete", None, Some(name)) if resource != "pods" => {
                match self.store.get(resource, namespace, name).cloned() {
                    Some(object) => {
                        self.store.remove(resource, namespace, name);
                        reply(200, &object)
                    }
                    None => refusal(404, &format!("{resource} \"{name}\" not found")),
                }
            }
            ("delete", None, Some(name)) => self.end(namespace, name, &body, dry, 200),
            ("create", Some("eviction"), Some(name)) => self.end(namespace, name, &body["deleteOptions"], dry, 201),
            ("create", None, None) if resource == "events" => reply(201, &body),
            ("create", None, None) => {
                let name = body["metadata"]["name"].as_str().unwrap();
                match self.store.get(resource, namespace, name) {
                    Some(_) => refusal(409, &format!("{resource} \"{name}\" already exists")),
                    None => reply(201, &self.store.put(resource, body)),
                }
            }
            other => panic!("{other:?} {resource} is not served"),
        }
    }

    /// Deletes a pod: its grace begins.
    fn end(&mut self, namespace: &str, name: &str, options: &Value, dry: bool, done: u16) -> Response<Stream> {
        let Some(pod) = self.store.get("pods", namespace, name).cloned() else {
            return refusal(404, &format!("pods \"{name}\" not found"));
        };
        let uid = &options["preconditions"]["uid"];
        if !uid.is_null() && *uid != pod["metadata"]["uid"] {
            return refusal(409, "the UID in the precondition does not match the UID in record");
        }
        if !dry {
            let mut gone = pod;
            gone["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
            let _ = if self.silent { self.store.put_unheard("pods", gone) } else { self.store.put("pods", gone) };
        }
        reply(done, &json!({ "apiVersion": "v1", "kind": "Status", "status": "Success", "code": done }))
    }
}

impl tower_service::Service<Request<Body>> for Server {
    type Response = Response<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Response<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let server = self.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
            let request = Request::from_parts(parts, String::from_utf8(body.to_vec()).unwrap());
            let answer = server.lock().answer(&request);
            let (late, response) = answer?;
            tokio::time::sleep(late).await;
            Ok(response)
        })
    }
}
