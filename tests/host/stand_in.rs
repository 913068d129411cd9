//! A stand-in for systemd's manager: units that behave as they are told, and every call on record.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::AsFd as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio::sync::oneshot;
use zbus::message::{Header, Type};
use zbus::{Connection, Message, MessageStream, OwnedObjectPath, OwnedVariant, Variant, connection};

use super::daemon::Daemon;

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";

/// How a unit takes what is asked of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It does it.
    #[default]
    Well,
    /// Its start fails with exit status 3.
    Fails,
    /// It starts, and ends soon after with a signal.
    Dies,
    /// It starts, and does so again and again.
    Flaps,
    /// It starts, and ends by itself.
    Ends,
    /// Its jobs never end.
    Hangs,
    /// Its jobs are over before their number is told.
    AtOnce,
    /// Its jobs end, and nobody is told.
    Silently,
    /// Somebody starts it again as soon as it is stopped.
    Returns,
    /// The bus goes away while it starts.
    Cuts,
}

/// A unit.
#[derive(Clone, Debug)]
pub(crate) struct Unit {
    pub(crate) manner: Manner,
    pub(crate) active: String,
    pub(crate) sub: String,
    /// As it was read last.
    pub(crate) environment: Vec<String>,
    /// What others set: in the unit itself, and in a drop-in that is read after all others.
    pub(crate) own: Vec<String>,
    pub(crate) last: Vec<String>,
    /// Units that it can't run beside.
    pub(crate) conflicts: Vec<String>,
    /// Files with more variables.
    pub(crate) files: Vec<String>,
    /// Units that need it (RequiredBy=).
    pub(crate) needed_by: Vec<String>,
    /// What its process was started with.
    pub(crate) runs_with: Vec<String>,
    pub(crate) processes: Vec<u32>,
    pub(crate) result: String,
    pub(crate) status: i32,
    pub(crate) starts: u8,
    exists: bool,
}

impl Unit {
    fn is(&mut self, active: &str, sub: &str) {
        (self.active, self.sub) = (active.to_owned(), sub.to_owned());
    }
}

/// What the stand-in knows.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) units: BTreeMap<String, Unit>,
    /// Calls of the manager, and what they were about.
    pub(crate) calls: Vec<String>,
    /// It refuses this call.
    pub(crate) refuses: Option<&'static str>,
    jobs: u32,
    queued: Vec<u32>,
    folder: PathBuf,
}

impl World {
    /// A unit that is stopped.
    pub(crate) fn unit(&mut self, name: &str, manner: Manner) -> &mut Unit {
        let unit = Unit {
            manner,
            active: "inactive".to_owned(),
            sub: "dead".to_owned(),
            environment: Vec::new(),
            own: Vec::new(),
            last: Vec::new(),
            conflicts: Vec::new(),
            files: Vec::new(),
            needed_by: Vec::new(),
            runs_with: Vec::new(),
            processes: Vec::new(),
            result: "success".to_owned(),
            status: 0,
            starts: 0,
            exists: true,
        };
        self.units.insert(name.to_owned(), unit);
        self.units.get_mut(name).unwrap()
    }

    /// Reads the drop-ins. Of a variable the last value holds.
    pub(crate) fn reload(&mut self) {
        for (name, unit) in &mut self.units {
            let file = self.folder.join(format!("system/{name}.d/50-sectile.conf"));
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let lines = text.lines().filter_map(|line| line.strip_prefix("Environment=\"")?.strip_suffix('"'));
            let all = unit.own.iter().cloned().chain(lines.map(str::to_owned)).chain(unit.last.iter().cloned());
            let by_name = all.map(|line| (line.split_once('=').unwrap().0.to_owned(), line));
            unit.environment = by_name.collect::<BTreeMap<_, _>>().into_values().collect();
        }
    }

    /// Somebody else starts a unit, with what was read last.
    pub(crate) fn started(&mut self, name: &str) {
        let unit = self.units.get_mut(name).unwrap();
        unit.starts += 1;
        unit.runs_with.clone_from(&unit.environment);
        unit.is("active", "running");
    }
}

/// A bus with the stand-in on it.
pub(crate) struct StandIn {
    pub(crate) folder: TempDir,
    pub(crate) address: String,
    world: Arc<Mutex<World>>,
    daemon: Option<Daemon>,
    ends: Option<oneshot::Sender<()>>,
}

impl StandIn {
    pub(crate) fn start() -> StandIn {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("system")).unwrap();
        let world = World { folder: folder.path().to_owned(), ..World::default() };
        let (address, world) = (String::new(), Arc::new(Mutex::new(world)));
        let mut stand_in = StandIn { folder, address, world, daemon: None, ends: None };
        stand_in.back();
        stand_in
    }

    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// What lies in the folder that stands for `/run/systemd`.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn drop_in(&self, unit: &str) -> Option<String> {
        std::fs::read_to_string(self.path().join(format!("system/{unit}.d/50-sectile.conf"))).ok()
    }

    /// Ends the bus and who is on it.
    pub(crate) fn away(&mut self) {
        (self.ends, self.daemon) = (None, None);
    }

    /// The bus is there again, with the same units.
    pub(crate) fn back(&mut self) {
        let daemon = Daemon::start(self.folder.path());
        self.address.clone_from(&daemon.address);
        let (world, address) = (Arc::clone(&self.world), self.address.clone());
        let (ends, ended) = oneshot::channel::<()>();
        let (is_there, there) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let connection = connection::Builder::address(address.as_str()).build().await.unwrap();
                let calls = MessageStream::from(&connection);
                connection.request_name(NAME).await.unwrap();
                is_there.send(()).unwrap();
                tokio::select! { () = serve(connection, calls, world) => {}, _ = ended => {} }
            });
        });
        there.recv().unwrap();
        (self.daemon, self.ends) = (Some(daemon), Some(ends));
    }
}

async fn serve(connection: Connection, mut calls: MessageStream, world: Arc<Mutex<World>>) {
    while let Some(Ok(message)) = calls.next().await {
        if message.message_type() == Type::MethodCall {
            tokio::spawn(answer(connection.clone(), message, Arc::clone(&world)));
        }
    }
}

fn path_of(unit: &str) -> OwnedObjectPath {
    let plain = |b: u8| if b.is_ascii_alphanumeric() { (b as char).to_string() } else { format!("_{b:02x}") };
    let name: String = unit.bytes().map(plain).collect();
    OwnedObjectPath::try_from(format!("{PATH}/unit/{name}")).unwrap()
}

async fn answer(connection: Connection, message: Message, world: Arc<Mutex<World>>) {
    let header = message.header();
    let member = header.member().unwrap().to_string();
    let body = message.body();
    let refuse = async |name: &str, text: &str| {
        let _ = connection.reply_error(&header, format!("org.freedesktop.systemd1.{name}"), &(text,)).await;
    };
    let refuses = world.lock().unwrap().refuses == Some(member.as_str());
    match member.as_str() {
        refused if refuses => refuse("AccessDenied", &format!("{refused} is denied")).await,
        "GetAll" => {
            let interface: String = body.deserialize().unwrap();
            let path = header.path().unwrap().to_string();
            let properties = {
                let mut world = world.lock().unwrap();
                let unit =
                    world.units.iter_mut().find(|(name, _)| path_of(name).as_str() == path).map(|(_, unit)| unit);
                unit.map(|unit| properties(&interface, unit))
            };
            match properties {
                Some(properties) => connection.reply(&header, &properties).await.unwrap(),
                None => {
                    let absent = HashMap::from([
                        ("LoadState", Variant::from("not-found")),
                        ("ActiveState", Variant::from("inactive")),
                        ("SubState", Variant::from("dead")),
                    ]);
                    connection.reply(&header, &absent).await.unwrap();
                }
            }
        }
        "LoadUnit" => {
            let unit: String = body.deserialize().unwrap();
            match unit.contains("@.") {
                true => {
                    let error = "org.freedesktop.DBus.Error.InvalidArgs";
                    let text = format!("Unit name {unit} is missing the instance name.");
                    connection.reply_error(&header, error, &(text,)).await.unwrap();
                }
                false => connection.reply(&header, &path_of(&unit)).await.unwrap(),
            }
        }
        "GetUnitProcesses" => {
            let unit: String = body.deserialize().unwrap();
            let pids = world.lock().unwrap().units.get(&unit).map(|unit| unit.processes.clone());
            let all = pids.unwrap_or_default().into_iter().map(|pid| ("/x".to_owned(), pid, "x".to_owned()));
            connection.reply(&header, &all.collect::<Vec<_>>()).await.unwrap();
        }
        "Subscribe" => {
            world.lock().unwrap().calls.push(member);
            connection.reply(&header, &()).await.unwrap();
        }
        "Reload" => {
            {
                let mut world = world.lock().unwrap();
                world.calls.push(member);
                world.reload();
            }
            connection.reply(&header, &()).await.unwrap();
        }
        "GetJob" => {
            let id: u32 = body.deserialize().unwrap();
            let queued = world.lock().unwrap().queued.contains(&id);
            match queued {
                true => connection.reply(&header, &job_path(id)).await.unwrap(),
                false => refuse("NoSuchJob", "no such job").await,
            }
        }
        "ResetFailedUnit" => {
            let unit: String = body.deserialize().unwrap();
            if let Some(unit) = world.lock().unwrap().units.get_mut(&unit).filter(|unit| unit.active == "failed") {
                unit.is("inactive", "dead");
            }
            connection.reply(&header, &()).await.unwrap();
        }
        "ListUnitsByPatterns" => {
            let (_, patterns): (Vec<String>, Vec<String>) = body.deserialize().unwrap();
            let [pattern] = patterns.as_slice() else { panic!("{patterns:?}") };
            let (begin, end) = pattern.split_once('*').unwrap();
            let none = OwnedObjectPath::try_from("/").unwrap();
            // What is inactive, and nobody asks for, is not loaded.
            let is_listed = |(name, unit): &(&String, &Unit)| {
                name.starts_with(begin) && name.ends_with(end) && unit.active != "inactive"
            };
            let listed: Vec<_> = {
                let world = world.lock().unwrap();
                let listed = world.units.iter().filter(is_listed);
                listed.map(|(name, unit)| (name.clone(), unit.active.clone(), unit.sub.clone())).collect()
            };
            let told = listed.iter().map(|(name, active, sub)| {
                (name, "a command", "loaded", active, sub, "", path_of(name), 0u32, "", none.clone())
            });
            connection.reply(&header, &told.collect::<Vec<_>>()).await.unwrap();
        }
        "StartUnit" | "RestartUnit" | "StopUnit" => {
            let (unit, _mode): (String, String) = body.deserialize().unwrap();
            let manner = {
                let mut world = world.lock().unwrap();
                world.calls.push(format!("{member} {unit}"));
                world.units.get(&unit).map(|unit| unit.manner)
            };
            match manner {
                None => refuse("NoSuchUnit", &format!("Unit {unit} not loaded.")).await,
                Some(manner) => job(&connection, &header, &world, &member, &unit, manner).await,
            }
        }
        "StartTransientUnit" => transient(&connection, &header, &message, &world).await,
        other => panic!("{other} is not called"),
    }
}

fn properties(interface: &str, unit: &mut Unit) -> HashMap<&'static str, Variant<'static>> {
    if unit.manner == Manner::Flaps && unit.active == "active" {
        unit.starts = unit.starts.wrapping_add(1);
    }
    if interface.ends_with(".Service") {
        return HashMap::from([
            ("Environment", Variant::from(unit.environment.clone())),
            ("EnvironmentFiles", Variant::from(unit.files.iter().map(|file| (file.clone(), true)).collect::<Vec<_>>())),
            ("Result", Variant::from(unit.result.clone())),
            ("ExecMainStatus", Variant::from(unit.status)),
        ]);
    }
    HashMap::from([
        ("LoadState", Variant::from(if unit.exists { "loaded" } else { "not-found" })),
        ("ActiveState", Variant::from(unit.active.clone())),
        ("SubState", Variant::from(unit.sub.clone())),
        // One that was never started has none.
        ("InvocationID", Variant::from(vec![unit.starts; if unit.starts == 0 { 0 } else { 16 }])),
        ("RequiredBy", Variant::from(unit.needed_by.clone())),
        ("Conflicts", Variant::from(unit.conflicts.clone())),
    ])
}

fn job_path(id: u32) -> OwnedObjectPath {
    OwnedObjectPath::try_from(format!("{PATH}/job/{id}")).unwrap()
}

/// Queues a job, does it, and tells of its end.
async fn job(
    connection: &Connection,
    header: &Header<'_>,
    world: &Arc<Mutex<World>>,
    verb: &str,
    unit: &str,
    manner: Manner,
) {
    let id = queue(world);
    let reply = async || connection.reply(header, &job_path(id)).await.unwrap();
    let starts = verb != "StopUnit";
    match manner {
        Manner::Hangs => return reply().await,
        Manner::Cuts if starts => {
            perform(world, unit, manner, starts);
            return;
        }
        Manner::AtOnce => {
            // Others' jobs end all the time.
            for other in 0..100 {
                removed(connection, world, 1_000_000 + other, "other.service", "done").await;
            }
            let result = perform(world, unit, manner, starts);
            removed(connection, world, id, unit, result).await;
            return reply().await;
        }
        Manner::Silently => {
            reply().await;
            perform(world, unit, manner, starts);
            world.lock().unwrap().queued.retain(|queued| *queued != id);
            return;
        }
        _ => {}
    }
    reply().await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    let result = perform(world, unit, manner, starts);
    removed(connection, world, id, unit, result).await;
    if manner == Manner::Dies && starts {
        tokio::time::sleep(Duration::from_millis(150)).await;
        let mut world = world.lock().unwrap();
        let unit = world.units.get_mut(unit).unwrap();
        unit.is("failed", "failed");
        (unit.result, unit.status) = ("signal".to_owned(), 11);
    }
}

fn queue(world: &Arc<Mutex<World>>) -> u32 {
    let mut world = world.lock().unwrap();
    world.jobs += 1;
    let id = world.jobs;
    world.queued.push(id);
    id
}

async fn removed(connection: &Connection, world: &Arc<Mutex<World>>, id: u32, unit: &str, result: &str) {
    world.lock().unwrap().queued.retain(|queued| *queued != id);
    let body = (id, job_path(id), unit, result);
    connection.emit_signal(None::<&str>, PATH, MANAGER, "JobRemoved", &body).await.unwrap();
}

/// What becomes of a unit, and of the job.
fn perform(world: &Arc<Mutex<World>>, unit: &str, manner: Manner, starts: bool) -> &'static str {
    let mut world = world.lock().unwrap();
    let unit = world.units.get_mut(unit).unwrap();
    if !starts {
        match manner {
            Manner::Returns => unit.is("active", "running"),
            _ => unit.is("inactive", "dead"),
        }
        return "done";
    }
    unit.starts += 1;
    unit.runs_with.clone_from(&unit.environment);
    match manner {
        Manner::Fails => {
            unit.is("failed", "failed");
            (unit.result, unit.status) = ("exit-code".to_owned(), 3);
            "failed"
        }
        Manner::Ends => {
            unit.is("inactive", "dead");
            "done"
        }
        _ => {
            unit.is("active", "running");
            "done"
        }
    }
}

/// Runs a transient unit's program, as systemd would.
async fn transient(connection: &Connection, header: &Header<'_>, message: &Message, world: &Arc<Mutex<World>>) {
    type Properties = Vec<(String, OwnedVariant)>;
    let body = message.body();
    let (name, mode, properties, _): (String, String, Properties, Vec<(String, Properties)>) =
        body.deserialize().unwrap();
    assert_eq!(mode, "fail");
    let properties: HashMap<String, OwnedVariant> = properties.into_iter().collect();
    fn get<T: TryFrom<OwnedVariant>>(of: &HashMap<String, OwnedVariant>, key: &str) -> T {
        T::try_from(of[key].try_clone().unwrap()).ok().unwrap_or_else(|| panic!("{key} is of another type"))
    }
    let exec: Vec<(String, Vec<String>, bool)> = get(&properties, "ExecStart");
    let environment: Vec<String> = get(&properties, "Environment");
    let Variant::Fd(output) = &*properties["StandardOutputFileDescriptor"] else { panic!("it is no descriptor") };
    let output = output.as_fd().try_clone_to_owned().unwrap();
    let limit: u64 = get(&properties, "TimeoutStartUSec");
    assert_eq!(get::<String>(&properties, "Type"), "oneshot");
    assert!(get::<bool>(&properties, "RemainAfterExit"));
    let id = queue(world);
    {
        let mut world = world.lock().unwrap();
        let runs = |(name, unit): (&String, &Unit)| name.starts_with("sectile-cmd-") && unit.active == "activating";
        let beside = if world.units.iter().any(runs) { " beside another" } else { "" };
        world.calls.push(format!("StartTransientUnit {}{beside}", exec[0].1.join(" ")));
        world.unit(&name, Manner::Well).is("activating", "start");
    }
    connection.reply(header, &job_path(id)).await.unwrap();
    // A variable's name would be expanded.
    let word = |word: &String| {
        let word = word.replace("$$", "\0");
        assert!(!word.contains('$'), "{word} is expanded");
        word.replace('\0', "$")
    };
    let mut command = Command::new(&exec[0].0);
    command.args(exec[0].1[1..].iter().map(word)).env_clear().current_dir("/").stdin(Stdio::null()).process_group(0);
    command.envs(environment.iter().map(|line| line.split_once('=').unwrap()));
    command.stdout(output.try_clone().unwrap()).stderr(output);
    let spawned = command.spawn();
    drop(command);
    let (result, status) = match spawned {
        Err(_) => ("exit-code", 203),
        Ok(child) => tokio::task::spawn_blocking(move || wait(child, Duration::from_micros(limit))).await.unwrap(),
    };
    {
        let mut world = world.lock().unwrap();
        let unit = world.units.get_mut(&name).unwrap();
        (unit.result, unit.status) = (result.to_owned(), status);
        match result {
            "success" => unit.is("active", "exited"),
            _ => unit.is("failed", "failed"),
        }
    }
    removed(connection, world, id, &name, if result == "success" { "done" } else { "failed" }).await;
}

fn wait(mut child: Child, limit: Duration) -> (&'static str, i32) {
    let step = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return match (status.code(), status.signal()) {
                (Some(0), _) => ("success", 0),
                (Some(code), _) => ("exit-code", code),
                (None, signal) => ("signal", signal.unwrap_or_default()),
            };
        }
        if waited > limit {
            child.kill().unwrap();
            child.wait().unwrap();
            return ("timeout", 9);
        }
        std::thread::sleep(step);
        waited += step;
    }
}
