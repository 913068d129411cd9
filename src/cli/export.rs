//! `sectile export`: what is there now, as a layout that plans to nothing; into a file that is there, with as little
//! changed as can be.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::config::schema::{LayoutFile, parse_layout};
use crate::config::write::{self, Standing};
use crate::config::{self, Diagnostic, NodeFacts, Tree, diagnostic};
use crate::model::{AsIs, DesiredNode, Digest, Observed, ObservedGpu, ObservedNode, Revision};
use crate::plan;

use super::args::{Export, Global};
use super::boards;
use super::error::{Context as _, Error};
use super::exit::Exit;
use super::output;

/// Observes and writes.
pub(super) fn run(args: &Export, global: &Global) -> Result<Exit, Error> {
    let observed = boards::here(global)?;
    let nodes: Vec<&ObservedNode> = observed.nodes.values().collect();
    for gap in nodes.iter().flat_map(|node| &node.gaps) {
        output::tell(&format!("unknown: {}: {}\n", gap.object, gap.message));
    }
    let Some(out) = &args.out else {
        let [node] = nodes[..] else {
            let names: Vec<&str> = nodes.iter().map(|node| node.name.as_str()).collect();
            let error = Error::usage(format!("a layout is written for one node, and there are {}", names.len()));
            let error = error.hint(format!("say --node with one of {}", names.join(", ")));
            return Err(error.hint("or --out TREE, and each gets layouts/NAME.toml below it"));
        };
        output::print(&write::layout(&node.name, &plan::export::as_is(node)));
        return Ok(Exit::Done);
    };
    let folder = out.is_dir() || out.as_os_str().to_string_lossy().ends_with('/');
    let written = match nodes[..] {
        [node] if !folder => vec![(out.clone(), contents(out, &out.display().to_string(), node)?)],
        _ => tree(out, &nodes)?,
    };
    for (path, text) in written {
        let same = fs::read_to_string(&path).is_ok_and(|old| old == text);
        if !same {
            save(&path, &text).context(|| format!("{} can't be written", path.display()))?;
        }
        if !global.quiet {
            let what = if same { "says so already" } else { "written" };
            output::tell(&format!("{}: {what}\n", path.display()));
        }
    }
    Ok(Exit::Done)
}

/// What a layout file shall be: new, or the one that is there brought up to date.
fn contents(path: &Path, name: &str, node: &ObservedNode) -> Result<String, Error> {
    if path.exists() && !path.is_file() {
        return Err(Error::usage(format!("{} is no file", path.display())).hint("name a layout file, or a folder"));
    }
    let old = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read.context(|| format!("{} can't be read", path.display()))?,
    };
    if old.trim().is_empty() {
        return Ok(write::layout(&node.name, &plan::export::as_is(node)));
    }
    rewritten(name, &old, node)
}

/// A layout file that is there, brought up to what the node has; a file that plans to nothing stays as it is.
///
/// # Errors
///
/// Where the file has errors, is about other nodes too, or can't be rewritten without harm to what it says otherwise.
pub fn rewritten(name: &str, text: &str, node: &ObservedNode) -> Result<String, Error> {
    let (file, desired, standings) = judge(name, text, node)?;
    let gpus: Vec<(AsIs, Standing)> = plan::export::as_is(node).into_iter().zip(standings).collect();
    let refused = |message: &str| Error::failed(format!("{name} is left as it is: {message}"));
    let new = write::rewrite(text, &file, &desired, &gpus);
    let new = new.map_err(|refusal| refused(&refusal.message).hint(refusal.hint))?;
    let (_, desired, standings) = judge(name, &new, node)?;
    let wrong = gpus.iter().zip(standings).find(|((gpu, _), standing)| {
        *standing == Standing::Differs || (*standing == Standing::Silent && gpu.goal.is_some() && gpu.note.is_empty())
    });
    if let Some(((gpu, _), _)) = wrong {
        let hint = "name that GPU in one entry only, by `index`; or export into a new file";
        return Err(refused(&format!("its entries for GPU {} stand in each other's way", gpu.index)).hint(hint));
    }
    match desired.blocked.first() {
        Some(block) => Err(refused(&block.message).hint(&block.hint)),
        None => Ok(new),
    }
}

/// Reads a layout file alone, and says how it stands to each GPU of a node, in their order. What its workloads want is
/// not asked.
fn judge(name: &str, text: &str, node: &ObservedNode) -> Result<(LayoutFile, DesiredNode, Vec<Standing>), Error> {
    let sources = BTreeMap::from([(name.to_owned(), text.to_owned())]);
    let sound = |found: &[Diagnostic]| match found.iter().any(Diagnostic::is_error) {
        true => {
            output::tell(&format!("{}\n", diagnostic::render(found, &sources, true)));
            Err(Error::failed(format!("{name} has errors, and is left as it is")))
        }
        false => Ok(()),
    };
    let (file, found) = parse_layout(name, text);
    sound(&found)?;
    let revision = Revision { name: None, digest: Digest::of([]) };
    let tree = Tree { revision, layouts: vec![file.clone()], policies: Vec::new() };
    let resolved = config::resolve(&tree, &[NodeFacts::of(node)]);
    sound(&resolved.diagnostics)?;
    let mut desired = resolved.desired;
    desired.bindings.clear();
    desired.nodes.values_mut().for_each(|node| node.bindings.clear());
    let observed = Observed { nodes: BTreeMap::from([(node.name.clone(), node.clone())]), ..Observed::default() };
    // Without a policy no window is open or shut, so the time means nothing.
    let plan = plan::plan(&desired, &observed, Timestamp::UNIX_EPOCH);
    let (Some(desired), Some(plan)) = (desired.nodes.remove(&node.name), plan.nodes.first()) else {
        return Err(Error::failed(format!("{} was not planned", node.name)));
    };
    let standing = |gpu: &ObservedGpu| {
        let planned = plan.gpus.iter().find(|planned| planned.uuid == gpu.uuid);
        let blocked = plan.blocked.iter().any(|block| block.object == plan::target::name(gpu));
        match planned {
            Some(planned) if planned.managed => {
                let pending = gpu.mig.pending != gpu.mig.current;
                if blocked || pending || !plan::export::stays(planned) { Standing::Differs } else { Standing::Holds }
            }
            _ if desired.gpus.contains_key(&gpu.uuid) => Standing::Holds,
            _ => Standing::Silent,
        }
    };
    let standings = node.gpus.iter().map(standing).collect();
    Ok((file, desired, standings))
}

/// Layouts below the folder of a tree, one for each node with MIG; with the files that are there already they must
/// still be a tree, in which they win.
fn tree(root: &Path, nodes: &[&ObservedNode]) -> Result<Vec<(PathBuf, String)>, Error> {
    let there = ["layouts", "policies"].iter().any(|folder| root.join(folder).is_dir());
    let mut sources = BTreeMap::new();
    if there {
        let loaded = config::load(root);
        if loaded.tree.is_none() {
            output::tell(&format!("{}\n", diagnostic::render(&loaded.diagnostics, &loaded.sources, true)));
            return Err(Error::failed(format!("the tree in {} has errors, and nothing was written", root.display())));
        }
        sources = loaded.sources;
        sources.remove("tree.toml");
    }
    let mut written = Vec::new();
    for node in nodes {
        if node.name.contains('/') || node.name.starts_with('.') {
            return Err(Error::failed(format!("no file of the tree can be called {}.toml", node.name))
                .hint("export that node alone, and into a file: --node NAME --out FILE"));
        }
        if !node.gpus.iter().any(|gpu| gpu.mig.capable) {
            output::tell(&format!("{}: no GPU with MIG, and no layout\n", node.name));
            continue;
        }
        let name = format!("layouts/{}.toml", node.name);
        let text = contents(&root.join(&name), &name, node)?;
        sources.insert(name.clone(), text.clone());
        written.push((node.name.as_str(), name, text));
    }
    let revision = Revision { name: None, digest: Digest::of([]) };
    let files = sources.iter().map(|(path, text)| (path.as_str(), text.as_str()));
    let (tree, mut found) = config::assemble(revision, files);
    let facts: Vec<NodeFacts> = nodes.iter().map(|node| NodeFacts::of(node)).collect();
    let resolved = tree.as_ref().map(|tree| config::resolve(tree, &facts));
    found.extend(resolved.iter().flat_map(|resolved| resolved.diagnostics.clone()));
    let beside = "export into the file that is there: --node NAME --out FILE";
    let Some(resolved) = resolved.filter(|_| !found.iter().any(Diagnostic::is_error)) else {
        output::tell(&format!("{}\n", diagnostic::render(&found, &sources, true)));
        return Err(
            Error::failed("beside what is there the layouts would be errors, and nothing was written").hint(beside)
        );
    };
    for (node, name, _) in &written {
        let winner = resolved.desired.nodes.get(*node).and_then(|desired| desired.layout.as_ref());
        if let Some(winner) = winner.filter(|winner| *winner.file != **name) {
            let message = format!("{winner} would win over {name} for {node}, and nothing was written");
            return Err(Error::failed(message).hint(beside));
        }
    }
    Ok(written.into_iter().map(|(_, name, text)| (root.join(name), text)).collect())
}

/// Writes a file whole or not at all; behind a link, what it points to.
fn save(path: &Path, text: &str) -> io::Result<()> {
    let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    // No file of a tree, in case it stays behind.
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = folder.join(format!(".{name}.new"));
    let mut file = File::create(&temporary)?;
    if let Ok(old) = fs::metadata(&path) {
        file.set_permissions(old.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, &path)
}
