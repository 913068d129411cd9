//! systemd's manager on the bus: calls, the end of the jobs that they queue, and errors as ports know them.

use std::num::NonZeroUsize;
use std::path::Path;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zbus::fdo;
use zbus::message::Type;
use zbus::zvariant::DynamicType;
use zbus::{Connection, DBusError as _, MatchRule, Message, MessageStream, OwnedObjectPath, connection};

use crate::model::visible;
use crate::ports::{Port, PortError};

/// Who is asked, and where it answers (org.freedesktop.systemd1(5)).
const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER_PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
/// Where the system's bus listens.
const SOCKET: &str = "/run/dbus/system_bus_socket";
/// A reload of all units takes seconds on a large host; whoever calls waits for a minute.
const ANSWER: Duration = Duration::from_secs(50);
/// Signals that may come before the answer that tells which one is waited for. A queue that is full stops the bus.
const QUEUE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
/// How often a job is looked for whose end nobody may have told.
const LOOK: Duration = Duration::from_secs(5);
/// Errors that pass by themselves.
const PASSES: [&str; 6] = [
    "org.freedesktop.DBus.Error.Disconnected",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.NoServer",
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.Timeout",
];
/// A transaction against jobs that are still queued, as while the machine boots.
const DESTRUCTIVE: &str = "org.freedesktop.systemd1.TransactionIsDestructive";

/// The bus; a connection is made when something is asked, and anew where it was lost.
#[derive(Debug)]
pub(super) struct Bus {
    /// `None`: the system's.
    address: Option<String>,
    open: Mutex<Option<Connection>>,
}

impl Bus {
    pub(super) fn new(address: Option<String>) -> Self {
        Bus { address, open: Mutex::new(None) }
    }

    async fn connection(&self) -> Port<Connection> {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let before = open.is_some();
        if let Some(open) = open.filter(|open| !open.is_closed()) {
            return Ok(open);
        }
        let builder = match &self.address {
            Some(address) => connection::Builder::address(address.as_str()),
            None => connection::Builder::system(),
        };
        let made = builder.method_timeout(ANSWER).build().await;
        let made = made.map_err(|error| {
            let mut error = told("systemd's bus can't be reached", error);
            // Where there never was one, waiting does not help.
            error.transient |= before || self.is_there();
            error
        })?;
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Some(made.clone());
        Ok(made)
    }

    /// Whether somebody listens, or has.
    fn is_there(&self) -> bool {
        self.address.is_some() || Path::new(SOCKET).exists()
    }

    async fn ask<B>(&self, path: &str, interface: &str, method: &str, body: &B, what: &str) -> Port<Message>
    where
        B: Serialize + DynamicType,
    {
        let connection = self.connection().await?;
        let reply = connection.call_method(Some(SYSTEMD), path, Some(interface), method, body).await;
        reply.map_err(|error| told(what, error))
    }

    /// Calls a method of the manager. `what` is what failed, where it does.
    pub(super) async fn call<B>(&self, method: &str, body: &B, what: &str) -> Port<Message>
    where
        B: Serialize + DynamicType,
    {
        self.ask(MANAGER_PATH, MANAGER, method, body, what).await
    }

    /// All properties of an interface of an object.
    pub(super) async fn properties<T: DeserializeOwned + zbus::zvariant::Type>(
        &self,
        path: &str,
        interface: &str,
        what: &str,
    ) -> Port<T> {
        let reply = self.ask(path, PROPERTIES, "GetAll", &(interface,), what).await?;
        read(&reply, what)
    }

    /// Calls a method that queues a job, and waits until that is over; its result (`done`, `failed`, …). `None`: it is over,
    /// and nobody told how.
    pub(super) async fn job<B>(&self, method: &str, body: &B, what: &str) -> Port<Option<String>>
    where
        B: Serialize + DynamicType,
    {
        let connection = self.connection().await?;
        let rule = MatchRule::builder().msg_type(Type::Signal).sender(SYSTEMD).path(MANAGER_PATH);
        let rule = rule.interface(MANAGER).member("JobRemoved").build();
        let rule = rule.map_err(|error| told(what, error))?;
        // Before the call: a job may be over before its number is known.
        let signals = MessageStream::for_match_rule(rule, &connection, Some(QUEUE)).await;
        let mut signals = signals.map_err(|error| told(what, error))?;
        // Without a subscriber systemd tells nobody; it minds a second subscription, and that is all.
        let _ = self.call("Subscribe", &(), what).await;
        let mut removed = Vec::new();
        let reply = {
            let mut call = pin!(self.call(method, body, what));
            loop {
                tokio::select! {
                    biased;
                    reply = &mut call => break reply?,
                    signal = signals.next() => match signal {
                        Some(Ok(signal)) => removed.extend(ended(&signal)),
                        _ => break call.await?,
                    },
                }
            }
        };
        let job: OwnedObjectPath = read(&reply, what)?;
        loop {
            if let Some((_, result)) = removed.into_iter().find(|(of, _)| *of == job) {
                return Ok(Some(result));
            }
            removed = Vec::new();
            tokio::select! {
                signal = signals.next() => match signal {
                    Some(Ok(signal)) => removed.extend(ended(&signal)),
                    _ => return Err(lost(what)),
                },
                () = tokio::time::sleep(LOOK) => if !self.is_queued(&job, what).await? {
                    return Ok(None);
                },
            }
        }
    }

    async fn is_queued(&self, job: &OwnedObjectPath, what: &str) -> Port<bool> {
        let id = job.rsplit('/').next().and_then(|id| id.parse::<u32>().ok());
        let Some(id) = id else { return Ok(false) };
        match self.call("GetJob", &(id,), what).await {
            Ok(_) => Ok(true),
            Err(error) if error.code == "org.freedesktop.systemd1.NoSuchJob" => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The job that has ended, and how.
fn ended(signal: &Message) -> Option<(OwnedObjectPath, String)> {
    let body = signal.body();
    let (_, job, _, result): (u32, OwnedObjectPath, String, String) = body.deserialize().ok()?;
    Some((job, result))
}

/// What an answer holds.
pub(super) fn read<T: DeserializeOwned + zbus::zvariant::Type>(reply: &Message, what: &str) -> Port<T> {
    reply.body().deserialize().map_err(|error| told(what, error))
}

fn lost(what: &str) -> PortError {
    let code = "org.freedesktop.DBus.Error.Disconnected".to_owned();
    PortError { transient: true, code, message: format!("{what}: the bus went away meanwhile") }
}

/// An error of the bus, as ports know it.
fn told(what: &str, error: zbus::Error) -> PortError {
    let (code, said) = match error {
        zbus::Error::MethodError(name, said, _) => (name.to_string(), said),
        zbus::Error::FDO(error) => match *error {
            fdo::Error::ZBus(error) => return told(what, error),
            error => (error.name().to_string(), error.description().map(str::to_owned)),
        },
        zbus::Error::InputOutput(error) if error.kind() == std::io::ErrorKind::TimedOut => (PASSES[2].to_owned(), None),
        zbus::Error::InputOutput(error) => (PASSES[0].to_owned(), Some(error.to_string())),
        other => (other.to_string(), None),
    };
    let transient = PASSES.contains(&code.as_str()) || code == DESTRUCTIVE;
    let said = said.filter(|said| !said.is_empty()).map(|said| format!(" ({})", visible(said.trim_end_matches('.'))));
    PortError { transient, code, message: format!("{what}{}", said.unwrap_or_default()) }
}
