//! The small languages within values: durations, shares, windows, time zones, versions, commands.

use std::path::Path;

use jiff::tz::TimeZoneDatabase;
use toml::de::DeTable;

use super::At;
use super::reader::{Node, Reader, Reason, nearest};
use crate::config::diagnostic::{Code, quote};
use crate::model::policy::{Amount, Span};

/// A year: what is longer is a slip.
const LONGEST_S: u64 = 366 * 24 * 60 * 60;

/// `15m`, `4h30m`, `30s`, `1d`: units in falling order, each at most once. In seconds.
pub fn duration(text: &str) -> Result<u64, Reason> {
    let fail = || Reason::new("not a duration").help("a duration is such as \"30s\", \"15m\", \"4h30m\" or \"1d\"");
    let mut rest = text;
    let mut seconds: u64 = 0;
    let mut last = u64::MAX;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(fail)?;
        let (digits, behind) = rest.split_at_checked(end).ok_or_else(fail)?;
        let number: u64 = digits.parse().map_err(|_| fail())?;
        let mut letters = behind.chars();
        let unit = match letters.next() {
            Some('d') => 24 * 60 * 60,
            Some('h') => 60 * 60,
            Some('m') => 60,
            Some('s') => 1,
            _ => return Err(fail()),
        };
        if unit >= last {
            return Err(fail());
        }
        last = unit;
        seconds = number.checked_mul(unit).and_then(|part| seconds.checked_add(part)).ok_or_else(fail)?;
        rest = letters.as_str();
    }
    match seconds {
        _ if text.is_empty() => Err(fail()),
        seconds if seconds > LONGEST_S => Err(Reason::new("longer than a year")),
        seconds => Ok(seconds),
    }
}

/// `10%`: 1 to 100.
pub fn share(text: &str) -> Result<Amount, Reason> {
    let fail =
        || Reason::new("neither a number nor a share").help("write a number, such as 2, or a share, such as \"10%\"");
    let digits = text.strip_suffix('%').ok_or_else(fail)?;
    let digits_only = digits.bytes().all(|b| b.is_ascii_digit());
    match digits.parse::<u32>() {
        Ok(percent @ 1..=100) if digits_only => Ok(Amount::Percent(percent)),
        Ok(_) if digits_only => Err(Reason::new("a share is 1% to 100%")),
        _ => Err(fail()),
    }
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// `Mon-Fri 22:00-06:00`, `Sat,Sun 00:00-24:00`.
pub fn window(text: &str) -> Result<Span, Reason> {
    let example = "a span is such as \"Mon-Fri 22:00-06:00\" or \"Sat,Sun 00:00-24:00\"";
    let fail = |label: &str| Reason::new(label).help(example);
    let (names, times) = text.trim().split_once(' ').ok_or_else(|| fail("days and times are needed"))?;
    let day = |name: &str| {
        let found = DAYS.iter().position(|day| name.eq_ignore_ascii_case(day));
        found.ok_or_else(|| {
            Reason::new(format!("{} is no day", quote(name))).help("days are Mon, Tue, Wed, Thu, Fri, Sat, Sun")
        })
    };
    let mut days = [false; 7];
    for part in names.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (day(first)?, day(last)?),
            None => (day(part)?, day(part)?),
        };
        // `Fri-Mon` goes on over the end of the week.
        let length = (last + 7 - first) % 7;
        for (at, chosen) in days.iter_mut().enumerate() {
            *chosen |= (at + 7 - first) % 7 <= length;
        }
    }
    let (from, to) = times.trim().split_once('-').ok_or_else(|| fail("two times are needed"))?;
    let time = |text: &str| clock(text).ok_or_else(|| fail("times are 00:00 to 24:00"));
    match (time(from)?, time(to)?) {
        (1440, _) => Err(fail("a span begins before 24:00")),
        // Midnight ends the day on which the span begins.
        (from, 0) => Ok(Span { days, from, to: 1440 }),
        (from, to) => Ok(Span { days, from, to }),
    }
}

/// Minutes after midnight of `HH:MM`.
fn clock(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let number = |digits: &str| match digits.len() == 2 && digits.bytes().all(|b| b.is_ascii_digit()) {
        true => digits.parse::<u32>().ok(),
        false => None,
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= 1440).then_some(total)
}

/// A zone of the IANA database that is built in, as it spells the name.
pub fn time_zone(text: &str) -> Result<String, Reason> {
    // The bundled one: what the tree means must not hang on the host's.
    let zones = TimeZoneDatabase::bundled();
    if let Ok(zone) = zones.get(text)
        && let Some(name) = zone.iana_name()
    {
        return Ok(name.to_owned());
    }
    let names: Vec<String> = zones.available().map(|name| name.as_str().to_owned()).collect();
    let near = nearest(text, names.iter().map(String::as_str));
    let help = near.map_or("a zone is such as \"Europe/Berlin\" or \"UTC\"".to_owned(), |near| {
        format!("did you mean \"{near}\"?")
    });
    Err(Reason::new("no time zone of the IANA database").help(help))
}

/// A command: no shell, an absolute path first.
pub(super) fn command(reader: &mut Reader<'_>, node: &Node<'_>, what: &str) -> Option<At<Vec<String>>> {
    let words = reader.texts(node, what, "texts")?;
    match words.first() {
        None => {
            reader.report(Code::BadValue, node.span(), format!("{what} is empty"), |d| d.label("a command is needed"));
            return None;
        }
        Some(program) if !Path::new(&program.value).is_absolute() => {
            let message = format!("{} is no absolute path", quote(&program.value));
            reader.report(Code::BadValue, program.span.clone(), message, |d| {
                d.label("run without a shell or a search path").help("write where it lies, such as \"/usr/bin/virsh\"")
            });
            return None;
        }
        Some(_) => {}
    }
    if let Some(word) = words.iter().find(|word| word.value.contains('\0')) {
        reader.report(Code::BadValue, word.span.clone(), format!("{what} has a NUL in it"), |d| {
            d.label("no argument may have one")
        });
        return None;
    }
    Some(reader.at(node.span(), words.into_iter().map(|word| word.value).collect()))
}

/// `tree.toml`: `requires = ">=0.3"`.
pub(super) fn requires(reader: &mut Reader<'_>, root: &DeTable<'_>, running: &str) {
    let root = reader.fields(root, 0..0, "tree.toml", &["requires"]);
    let Some(node) = root.get("requires") else { return };
    let Some(wanted) = reader.parsed(node, "`requires`", at_least) else { return };
    if version(running).is_some_and(|running| running < wanted.value) {
        let [major, minor, patch] = wanted.value;
        let message = format!("this tree needs a newer sectile: {major}.{minor}.{patch} or later");
        reader.report(Code::Upgrade, wanted.span, message, |d| {
            d.label(format!("this is sectile {running}")).help("upgrade sectile on this machine")
        });
    }
}

fn at_least(text: &str) -> Result<[u32; 3], Reason> {
    let fail = || Reason::new("not a least version").help("write it such as \">=0.3\"");
    version(text.strip_prefix(">=").ok_or_else(fail)?.trim()).ok_or_else(fail)
}

/// `0.3` or `0.3.1`; a pre-release counts as the release that it leads to.
fn version(text: &str) -> Option<[u32; 3]> {
    let release = text.split(['-', '+']).next()?;
    let mut parts = release.split('.');
    let mut next = || match parts.next() {
        None => Some(0),
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse::<u32>().ok(),
        Some(_) => None,
    };
    let version = [next()?, next()?, next()?];
    (!release.is_empty() && parts.next().is_none()).then_some(version)
}
