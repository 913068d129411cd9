//! Objects that are kept by a watch: what was listed once, and every change since. A dropped watch, one that fell
//! behind (410) and a server that is away are kube's to mend; how it stands is told with what is kept.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::StreamExt as _;
use kube::core::{ApiResource, DynamicObject, NamespaceResourceScope};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::transport::{of_client, refused};
use crate::model::Gap;
use crate::ports::{Port, PortError};

/// How long the first list may take before its absence is told as an error.
const FIRST: Duration = Duration::from_secs(30);
/// Pauses between lists that fail: doubling, between these.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LAST_PAUSE: Duration = Duration::from_secs(30);
/// After which it is tried again to list what the server has not got or does not show.
const BARRED_PAUSE: Duration = Duration::from_secs(300);

/// What is kept, by namespace and name.
type Items<T> = BTreeMap<(String, String), T>;

/// Whether anything can be told without a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// No: whoever may not see it knows nothing.
    Always,
    /// Yes: a server that has no such kind has none of its objects, and that they may not be seen is a gap.
    IfThere,
}

#[derive(Debug)]
struct Kept<T> {
    items: Items<T>,
    /// Versions that our own changes gave to objects.
    ours: BTreeMap<(String, String), u64>,
    /// Versions that the watch has told objects to have.
    told: BTreeMap<(String, String), u64>,
    /// Those of a list that is not complete yet.
    coming: Items<T>,
    ready: bool,
    /// How often something was told of it.
    changes: u64,
    /// Why what is kept may be old.
    trouble: Option<PortError>,
    /// The server has no such kind, or we may not see it.
    barred: Option<PortError>,
}

/// What became of a watch by what it told.
enum WentOn {
    Yes,
    /// And everything was told.
    Listed,
    No,
}

/// A mirror of all objects of a kind, each as what is needed of it.
#[derive(Debug)]
pub(super) struct Mirror<T> {
    what: &'static str,
    kept: Arc<Mutex<Kept<T>>>,
    changed: Arc<Notify>,
    task: JoinHandle<()>,
}

impl<T> Drop for Mirror<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T: Clone + Send + 'static> Mirror<T> {
    /// Begins to watch all objects of a kind; `keep` tells what is needed of one, `None`: nothing.
    pub(super) fn of<K>(
        client: &Client,
        what: &'static str,
        need: Need,
        keep: impl Fn(&K) -> Option<T> + Send + 'static,
    ) -> Self
    where
        K: Resource<DynamicType = ()> + DeserializeOwned + 'static,
    {
        let api = Api::all_with(client.clone(), &ApiResource::erase::<K>(&()));
        Mirror::begin(api, watcher::Config::default(), what, need, reading(keep))
    }

    /// The same of the one object of that name, which may be all that one has a right to see.
    pub(super) fn one<K>(
        client: &Client,
        (namespace, name): (&str, &str),
        what: &'static str,
        need: Need,
        keep: impl Fn(&K) -> Option<T> + Send + 'static,
    ) -> Self
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned + 'static,
    {
        let named = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let api = Api::namespaced_with(client.clone(), namespace, &ApiResource::erase::<K>(&()));
        Mirror::begin(api, named, what, need, reading(keep))
    }

    fn begin(
        api: Api<DynamicObject>,
        config: watcher::Config,
        what: &'static str,
        need: Need,
        keep: impl Fn(&DynamicObject) -> Result<Option<T>, Unread> + Send + 'static,
    ) -> Self {
        let (items, ours, told, coming) = Default::default();
        let kept = Kept { items, ours, told, coming, ready: false, changes: 0, trouble: None, barred: None };
        let (kept, changed) = (Arc::new(Mutex::new(kept)), Arc::new(Notify::new()));
        let (into, tell) = (Arc::clone(&kept), Arc::clone(&changed));
        let task = tokio::spawn(async move {
            let mut pause = FIRST_PAUSE;
            loop {
                let mut stream = pin!(watcher(api.clone(), config.clone()));
                while let Some(event) = stream.next().await {
                    let went_on = lock(&into).take(event, what, need, &keep);
                    tell.notify_waiters();
                    match went_on {
                        WentOn::Yes => {}
                        WentOn::Listed => pause = FIRST_PAUSE,
                        WentOn::No => break,
                    }
                }
                // A watch that can't be taken up says nothing once it can; a new list does.
                let barred = lock(&into).barred.is_some();
                tokio::time::sleep(if barred { BARRED_PAUSE } else { pause }).await;
                pause = (pause * 2).min(LAST_PAUSE);
            }
        });
        Mirror { what, kept, changed, task }
    }

    /// Works with what is kept.
    ///
    /// # Errors
    ///
    /// Where there is no first list yet, or what is kept may be old since the watch is down; of a kind that is not
    /// there or may not be seen, nothing is kept.
    pub(super) async fn with<R>(&self, with: impl FnOnce(&Items<T>) -> R) -> Port<R> {
        let late = self.is_late().await;
        let kept = lock(&self.kept);
        match &kept.trouble {
            Some(trouble) => Err(trouble.clone()),
            None if late => Err(self.no_list()),
            None => Ok(with(&kept.items)),
        }
    }

    /// Works with what was kept last, however old it may be.
    ///
    /// # Errors
    ///
    /// Where nothing was ever told, or the kind may not be seen.
    pub(super) async fn last<R>(&self, with: impl FnOnce(&Items<T>) -> R) -> Port<R> {
        let late = self.is_late().await;
        let kept = lock(&self.kept);
        match (&kept.barred, &kept.trouble) {
            (Some(why), _) => Err(why.clone()),
            (None, Some(why)) if !kept.ready => Err(why.clone()),
            _ if late => Err(self.no_list()),
            _ => Ok(with(&kept.items)),
        }
    }

    fn no_list(&self) -> PortError {
        PortError {
            transient: true,
            code: format!("no answer for {} s", FIRST.as_secs()),
            message: format!("listing {}", self.what),
        }
    }

    /// Waits for the first list; whether it did not come in time.
    async fn is_late(&self) -> bool {
        let first = async {
            loop {
                // Registered before the look, so that no change in between is missed.
                let changed = self.changed.notified();
                if lock(&self.kept).settled() {
                    return;
                }
                changed.await;
            }
        };
        tokio::time::timeout(FIRST, first).await.is_err()
    }

    /// How often something was told of it: another number, and it may have changed.
    pub(super) fn changes(&self) -> u64 {
        lock(&self.kept).changes
    }

    /// Why nothing is kept of a kind that is not there or may not be seen.
    pub(super) fn gap(&self) -> Option<Gap> {
        let kept = lock(&self.kept);
        kept.barred.as_ref().map(|why| Gap { object: self.what.to_owned(), message: why.to_string() })
    }

    /// Takes an object as the server has just told it in answer to a change of ours; what a watch tells of it from before
    /// comes too late.
    pub(super) fn put<K: Resource>(&self, object: &K, item: T) {
        let mut kept = lock(&self.kept);
        // A change behind ours may have been told before our answer came: nobody would tell it again.
        if version(object).zip(kept.told.get(&key(object))).is_some_and(|(ours, told)| ours < *told) {
            return;
        }
        kept.ours.extend(version(object).map(|version| (key(object), version)));
        kept.items.insert(key(object), item);
    }
}

/// An object is not what its kind says.
struct Unread;

/// What is watched is read as JSON by one watch for all kinds, and then as its kind: what reads Kubernetes' objects is
/// most of the program already, and would be made once for each way by which a watch tells them.
fn reading<K: DeserializeOwned, T>(
    keep: impl Fn(&K) -> Option<T>,
) -> impl Fn(&DynamicObject) -> Result<Option<T>, Unread> {
    move |object| {
        let value = serde_json::to_value(object).map_err(|_| Unread)?;
        serde_json::from_value(value).map(|object| keep(&object)).map_err(|_| Unread)
    }
}

fn key<K: Resource>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}

/// Versions of a kind's objects can be compared as numbers (promised since Kubernetes 1.35, and so since etcd).
fn version<K: Resource>(object: &K) -> Option<u64> {
    object.resource_version()?.parse().ok()
}

impl<T: Clone> Kept<T> {
    /// Whether a look need not wait: it is all there, or it is known why not.
    fn settled(&self) -> bool {
        self.ready || self.trouble.is_some() || self.barred.is_some()
    }

    fn take(
        &mut self,
        event: Result<Event<DynamicObject>, watcher::Error>,
        what: &'static str,
        need: Need,
        keep: &impl Fn(&DynamicObject) -> Result<Option<T>, Unread>,
    ) -> WentOn {
        self.changes = self.changes.wrapping_add(1);
        self.keep(event, what, need, keep).unwrap_or_else(|Unread| self.unread(what))
    }

    fn keep(
        &mut self,
        event: Result<Event<DynamicObject>, watcher::Error>,
        what: &'static str,
        need: Need,
        keep: &impl Fn(&DynamicObject) -> Result<Option<T>, Unread>,
    ) -> Result<WentOn, Unread> {
        match event {
            Ok(Event::Init) => {
                self.coming.clear();
                // A server that was restored counts from an earlier version.
                self.ours.clear();
                self.told.clear();
            }
            Ok(Event::InitApply(object)) => {
                self.hear(&object);
                let late = self.is_late(&object);
                let known = if late { self.items.get(&key(&object)).cloned() } else { keep(&object)? };
                self.coming.extend(known.map(|item| (key(&object), item)));
            }
            Ok(Event::InitDone) => {
                self.items = std::mem::take(&mut self.coming);
                (self.ready, self.trouble, self.barred) = (true, None, None);
                return Ok(WentOn::Listed);
            }
            Ok(Event::Apply(object)) if self.is_late(&object) => {}
            Ok(Event::Apply(object)) => {
                self.hear(&object);
                match keep(&object)? {
                    Some(item) => drop(self.items.insert(key(&object), item)),
                    None => drop(self.items.remove(&key(&object))),
                }
            }
            // Of what was made anew meanwhile.
            Ok(Event::Delete(object)) if self.is_late(&object) => {}
            Ok(Event::Delete(object)) => {
                self.told.remove(&key(&object));
                self.items.remove(&key(&object));
            }
            Err(error) => return Ok(self.fail(&error, what, need)),
        }
        Ok(WentOn::Yes)
    }

    fn hear<K: Resource>(&mut self, object: &K) {
        self.told.extend(version(object).map(|version| (key(object), version)));
    }

    /// Whether an object is from before a change of ours.
    fn is_late<K: Resource>(&self, object: &K) -> bool {
        self.ours.get(&key(object)).is_some_and(|ours| version(object).is_some_and(|version| version < *ours))
    }

    /// Its object would go unseen.
    fn unread(&mut self, what: &'static str) -> WentOn {
        let code = "what it tells can't be read".to_owned();
        self.trouble = Some(PortError { transient: true, code, message: format!("watching {what}") });
        self.barred = None;
        WentOn::No
    }

    fn fail(&mut self, error: &watcher::Error, what: &'static str, need: Need) -> WentOn {
        let message = format!("watching {what}");
        let trouble = match error {
            watcher::Error::InitialListFailed(kube::Error::Api(status))
                // What was there once is there: a server that was just started does not know yet what we may.
                if need == Need::IfThere && !self.ready && matches!(status.code, 403 | 404) =>
            {
                self.items.clear();
                (self.trouble, self.barred) = (None, Some(refused(status.code, &status.message, &message)));
                return WentOn::No;
            }
            // To kube whatever is no event is a Status.
            watcher::Error::WatchFailed(kube::Error::Api(_) | kube::Error::SerdeError(_)) => return self.unread(what),
            // What was kept is as it was a moment ago, and the watch is taken up again; where that fails, it is told.
            watcher::Error::WatchFailed(_) | watcher::Error::WatchError(_) => return WentOn::Yes,
            watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => {
                of_client(error, &message)
            }
            watcher::Error::NoResourceVersion => {
                PortError { transient: false, code: "it can't be watched".to_owned(), message }
            }
        };
        (self.trouble, self.barred) = (Some(trouble), None);
        WentOn::No
    }
}
