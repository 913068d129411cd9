//! The journal on the host's disk: a file of lines, each on stable storage before what it tells of begins.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::ports::{Journal, Port, PortError};

/// A journal in a file.
#[derive(Debug)]
pub struct FileJournal {
    path: PathBuf,
    file: File,
}

impl FileJournal {
    /// Opens the journal, and makes it and the folders above it where there are none.
    pub fn open(path: &Path) -> Port<Self> {
        let told = |what: &'static str| move |error| port_error(what, path, &error);
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(told("make the folder of"))?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true);
        let file = options.open(path).map_err(told("open"))?;
        // Whoever reads a pipe waits for ever.
        if !file.metadata().map_err(told("open"))?.is_file() {
            let message = format!("can't open the journal {}", path.display());
            return Err(PortError { transient: false, code: "it is no file".to_owned(), message });
        }
        // The name of a new file must last as its lines do.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(told("keep"))?;
        Ok(FileJournal { path: path.to_owned(), file })
    }

    /// Whether the file ends inside a line: a crash, or a full disk, tore the last one.
    fn torn(&mut self) -> std::io::Result<bool> {
        if self.file.metadata()?.len() == 0 {
            return Ok(false);
        }
        let mut last = [0];
        self.file.seek(SeekFrom::End(-1))?;
        self.file.read_exact(&mut last)?;
        Ok(last != *b"\n")
    }

    fn write(&mut self, line: &str) -> std::io::Result<()> {
        // A torn line stays a line of its own: what follows it must not be read as its rest.
        let before = if self.torn()? { "\n" } else { "" };
        self.file.write_all(format!("{before}{line}\n").as_bytes())?;
        self.file.sync_all()
    }
}

fn port_error(what: &str, path: &Path, error: &std::io::Error) -> PortError {
    use std::io::ErrorKind::{Interrupted, StorageFull, TimedOut, WouldBlock};
    PortError {
        transient: matches!(error.kind(), Interrupted | StorageFull | TimedOut | WouldBlock),
        code: error.kind().to_string(),
        message: format!("can't {what} the journal {}", path.display()),
    }
}

impl Journal for FileJournal {
    fn append(&mut self, line: &str) -> Port<()> {
        if line.contains('\n') {
            let kind = std::io::ErrorKind::InvalidInput;
            return Err(port_error("write a record of several lines to", &self.path, &kind.into()));
        }
        self.write(line).map_err(|error| port_error("write to", &self.path, &error))
    }

    fn lines(&self) -> Port<Vec<String>> {
        let bytes = std::fs::read(&self.path).map_err(|error| port_error("read", &self.path, &error))?;
        // A torn line may end inside a character.
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.split_terminator('\n').map(str::to_owned).collect())
    }

    fn clear(&mut self) -> Port<()> {
        let cleared = self.file.set_len(0).and_then(|()| self.file.sync_all());
        cleared.map_err(|error| port_error("clear", &self.path, &error))
    }
}
