//! Our MCP server in the configuration of an agent program that is no session of ours: put in, and taken out again.
//!
//! **Invariant:** a file that does not parse is left as it is, and so is an entry of our name that is not ours. **Invariant:** what else
//! the file says, it says afterwards; before the first change it is copied once. **Invariant:** the new text replaces the old one whole,
//! by a rename.
//!
//! Deliberately absent: a bundle or state directory in the entry. The server finds its bundle from the directory that the program
//! starts it in, as every command does.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use crate::boot::bundle::home;
use crate::boot::statedir::refused;
use crate::model::fault::Fault;

/// An agent program whose configuration we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// OpenAI Codex.
    Codex,
    /// Claude Code.
    Claude,
    /// Gemini CLI.
    Gemini,
    /// opencode.
    Opencode,
}

/// What was done, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The program's configuration file.
    pub file: PathBuf,
    /// Its new text; `None` when it goes, because nothing but ours was in it.
    pub text: Option<String>,
    /// Whether that differs from what is there.
    pub changes: bool,
    /// The copy of the file as it was before us, if there was one.
    pub backup: Option<PathBuf>,
}

/// What our entry is called.
const ENTRY: &str = "agentmux";
/// The variable that tells that an entry is ours.
const TAG: &str = "AGENTMUX_INSTALLED";
/// The lines around ours in a file with comments.
const BEGIN: &str = "# >>> agentmux: `agentmux uninstall codex` removes these lines";
const END: &str = "# <<< agentmux";

impl Tool {
    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Tool::Codex => "codex",
            Tool::Claude => "claude",
            Tool::Gemini => "gemini",
            Tool::Opencode => "opencode",
        }
    }

    /// Its person-wide configuration file.
    ///
    /// # Errors
    /// `io` without a home directory.
    pub fn file(self) -> Result<PathBuf, Fault> {
        let home = || home().ok_or_else(|| Fault::io("install failed: there is no home directory"));
        let set = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
        let file = match self {
            Tool::Codex => match set("CODEX_HOME") {
                Some(dir) => dir.join("config.toml"),
                None => home()?.join(".codex/config.toml"),
            },
            Tool::Claude => home()?.join(".claude.json"),
            Tool::Gemini => home()?.join(".gemini/settings.json"),
            Tool::Opencode => match set("XDG_CONFIG_HOME") {
                Some(dir) => dir.join("opencode/opencode.json"),
                None => home()?.join(".config/opencode/opencode.json"),
            },
        };
        // A link stays one: what it leads to is changed.
        Ok(std::fs::canonicalize(&file).unwrap_or(file))
    }

    /// Where the servers stand in it.
    fn servers(self) -> &'static str {
        match self {
            Tool::Codex => "mcp_servers",
            Tool::Claude | Tool::Gemini => "mcpServers",
            Tool::Opencode => "mcp",
        }
    }

    fn entry(self, program: &str, name: &str) -> Value {
        let args = ["host", "mcp", "--as", name];
        match self {
            Tool::Codex | Tool::Gemini => json!({"command": program, "args": args, "env": {TAG: "1"}}),
            Tool::Claude => json!({"type": "stdio", "command": program, "args": args, "env": {TAG: "1"}}),
            Tool::Opencode => {
                let command: Vec<&str> = [program].into_iter().chain(args).collect();
                json!({"type": "local", "command": command, "environment": {TAG: "1"}, "enabled": true})
            }
        }
    }
}

/// What installing our server for `tool`, under `name`, makes of its configuration.
///
/// # Errors
/// `io` when the file cannot be read; `refused` when it does not parse; `conflict` when it has an entry of our name that is not ours.
pub fn install(tool: Tool, program: &str, name: &str) -> Result<Change, Fault> {
    change(tool, Some(&tool.entry(program, name)))
}

/// What taking our server out again makes of it.
///
/// # Errors
/// As [`install`].
pub fn uninstall(tool: Tool) -> Result<Change, Fault> {
    change(tool, None)
}

/// Writes a change, after copying the file as it was before us, once.
///
/// # Errors
/// What the file system says.
pub fn write(change: &Change) -> Result<(), Fault> {
    let failed = |error: std::io::Error| refused(&change.file, &format!("it cannot be written: {error}"));
    let Some(text) = &change.text else { return std::fs::remove_file(&change.file).map_err(failed) };
    let dir = change.file.parent().unwrap_or(Path::new("/"));
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mode = std::fs::metadata(&change.file).map_or(0o600, |meta| meta.permissions().mode() & 0o777);
    if let Some(backup) = change.backup.as_ref().filter(|backup| !backup.exists()) {
        std::fs::copy(&change.file, backup).map_err(failed)?;
    }
    let beside = sibling(&change.file, "agentmux-new");
    let mut file = std::fs::File::create(&beside).map_err(failed)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&beside, &change.file))
        .map_err(failed)
}

fn sibling(file: &Path, end: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".");
    name.push(end);
    PathBuf::from(name)
}

fn change(tool: Tool, entry: Option<&Value>) -> Result<Change, Fault> {
    let file = tool.file()?;
    let before = match std::fs::read_to_string(&file) {
        Ok(text) => Some(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => return Err(refused(&file, &format!("it cannot be read: {error}"))),
    };
    let old = before.as_deref().unwrap_or_default();
    let new = match tool {
        Tool::Codex => change_toml(tool, &file, old, entry)?,
        _ => change_json(tool, &file, old, entry)?,
    };
    let backup = sibling(&file, "agentmux-backup");
    // Without a copy the file is our own: it was not there before us.
    let is_ours_alone = entry.is_none() && !backup.exists() && matches!(new.trim(), "" | "{}");
    let changes = before.is_some() && is_ours_alone || (new != old && !is_ours_alone);
    let backup = before.is_some().then_some(backup).filter(|backup| entry.is_some() || backup.exists());
    Ok(Change { file, text: (!is_ours_alone).then_some(new), changes, backup })
}

fn unparsable(file: &Path, why: &str) -> Fault {
    let why = why.lines().next().unwrap_or("it does not parse");
    Fault::refused(format!("{} was left as it is: it does not parse: {why}", file.display()))
        .hint("mend it, or write the entry into it by hand: --dry-run shows it")
}

fn foreign(tool: Tool, file: &Path) -> Fault {
    Fault::conflict(format!("{} has a server `{ENTRY}` that is not ours", file.display()))
        .hint(format!("remove or rename it below `{}`, then try again", tool.servers()))
}

/// JSON is written anew, with its keys in their order.
fn change_json(tool: Tool, file: &Path, old: &str, entry: Option<&Value>) -> Result<String, Fault> {
    let mut root: Map<String, Value> = match old.trim() {
        "" => Map::new(),
        text => serde_json::from_str(text).map_err(|error| unparsable(file, &error.to_string()))?,
    };
    let has = root.get(tool.servers()).and_then(|servers| servers.get(ENTRY));
    let is_tagged = |entry: &Value| ["env", "environment"].iter().any(|key| entry[*key].get(TAG).is_some());
    if has.is_some_and(|entry| !is_tagged(entry)) {
        return match entry {
            Some(_) => Err(foreign(tool, file)),
            None => Ok(old.to_owned()),
        };
    }
    if has == entry {
        return Ok(old.to_owned());
    }
    match entry {
        Some(entry) => {
            let servers = root.entry(tool.servers()).or_insert_with(|| json!({}));
            let Some(servers) = servers.as_object_mut() else {
                return Err(unparsable(file, &format!("`{}` is no object", tool.servers())));
            };
            servers.insert(ENTRY.to_owned(), entry.clone());
        }
        None => {
            if let Some(servers) = root.get_mut(tool.servers()).and_then(Value::as_object_mut) {
                servers.shift_remove(ENTRY);
                if servers.is_empty() {
                    root.shift_remove(tool.servers());
                }
            }
        }
    }
    let mut text = serde_json::to_string_pretty(&root).map_err(|error| Fault::bug(error.to_string()))?;
    text.push('\n');
    Ok(text)
}

/// TOML has comments and a layout: ours are lines of their own at the end, and no other line changes.
fn change_toml(tool: Tool, file: &Path, old: &str, entry: Option<&Value>) -> Result<String, Fault> {
    let parse =
        |text: &str| toml::from_str::<toml::Table>(text).map_err(|error| unparsable(file, error.message()));
    let _ = parse(old)?;
    let rest = match (old.find(BEGIN), old.find(END)) {
        (Some(begin), Some(end)) if begin < end => {
            // Of the line of our end mark only what is somebody else's stays, however that line ends.
            let after = old[end + END.len()..].trim_start_matches([' ', '\t', '\r']);
            format!("{}{}", &old[..begin], after.strip_prefix('\n').unwrap_or(after))
        }
        _ => old.to_owned(),
    };
    let parsed = parse(&rest)?;
    if parsed.get(tool.servers()).and_then(|servers| servers.get(ENTRY)).is_some() {
        return match entry {
            Some(_) => Err(foreign(tool, file)),
            None => Ok(old.to_owned()),
        };
    }
    let Some(entry) = entry else { return Ok(rest) };
    let quoted = |value: &Value| value.to_string(); // a string or list of strings of JSON is one of TOML
    let gap = if rest.is_empty() || rest.ends_with('\n') { "" } else { "\n" };
    let new = format!(
        "{rest}{gap}{BEGIN}\n[{servers}.{ENTRY}]\ncommand = {}\nargs = {}\nenv = {{ {TAG} = \"1\" }}\n{END}\n",
        quoted(&entry["command"]),
        quoted(&entry["args"]),
        servers = tool.servers(),
    );
    let _ = parse(&new)?;
    Ok(new)
}
