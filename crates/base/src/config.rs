//! oslo.config files: `[section]`, `name = value`, continued lines, repeated options.
//!
//! Upstream's sections and option names are ours. An option nobody asked for is reported once by
//! [`Config::unknown`], never silently swallowed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};

/// Limit: one configuration file; the largest sample that upstream generates has 0.6 MB.
const MAX_FILE_BYTES: u64 = 4 << 20;

#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading the configuration file {path}")]
    Read { path: String, source: std::io::Error },
    #[error("{path}, line {line}: {why}")]
    Syntax { path: String, line: usize, why: &'static str },
    #[error("[{section}] {name} = {value}: {why}")]
    Value { section: String, name: String, value: String, why: &'static str },
}

/// The options of one service, merged from its files; later files win.
#[derive(Debug, Clone, Default)]
pub struct Config {
    options: BTreeMap<(String, String), Vec<String>>,
    asked: Arc<Mutex<BTreeSet<(String, String)>>>,
}

impl Config {
    /// Reads `path` over what is already here. A missing file is fine: every option has a default.
    pub fn load(&mut self, path: &Path) -> Result<(), ConfigError> {
        let shown = path.display().to_string();
        let text = match std::fs::metadata(path) {
            Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Ok(file) if file.len() > MAX_FILE_BYTES => {
                return Err(ConfigError::Syntax { path: shown, line: 0, why: "the file is larger than 4 MiB" });
            }
            _ => std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: shown.clone(), source })?,
        };
        self.merge(&text).map_err(|(line, why)| ConfigError::Syntax { path: shown, line, why })
    }

    /// Builds a configuration from text, for tests and for generated files.
    pub fn parse(text: &str) -> Result<Config, ConfigError> {
        let mut config = Config::default();
        let syntax = |(line, why)| ConfigError::Syntax { path: "(text)".into(), line, why };
        config.merge(text).map_err(syntax)?;
        Ok(config)
    }

    pub fn set(&mut self, section: &str, name: &str, value: impl Into<String>) {
        self.options.insert((section.into(), name.into()), vec![value.into()]);
    }

    pub fn text(&self, section: &str, name: &str) -> Option<&str> {
        self.all(section, name).last().map(String::as_str)
    }

    pub fn text_or<'a>(&'a self, section: &str, name: &str, default: &'a str) -> &'a str {
        self.text(section, name).unwrap_or(default)
    }

    pub fn integer(&self, section: &str, name: &str, default: i64) -> Result<i64, ConfigError> {
        match self.text(section, name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| wrong(section, name, text, "not a whole number")),
        }
    }

    pub fn flag(&self, section: &str, name: &str, default: bool) -> Result<bool, ConfigError> {
        match self.text(section, name).map(str::to_ascii_lowercase).as_deref() {
            None => Ok(default),
            Some("true" | "1" | "yes" | "on") => Ok(true),
            Some("false" | "0" | "no" | "off") => Ok(false),
            Some(other) => Err(wrong(section, name, other, "neither true nor false")),
        }
    }

    /// A comma-separated list.
    pub fn list(&self, section: &str, name: &str) -> Vec<String> {
        let text = self.text(section, name).unwrap_or_default();
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(String::from).collect()
    }

    /// Every value of an option that may be repeated.
    pub fn all(&self, section: &str, name: &str) -> &[String] {
        let key = (section.to_string(), name.to_string());
        let found = self.options.get(&key).map(Vec::as_slice).unwrap_or_default();
        self.asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(key);
        found
    }

    /// The options that are set but that nothing has read, as `[section] name`.
    pub fn unknown(&self) -> Vec<String> {
        let asked = self.asked.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let unread = self.options.keys().filter(|key| !asked.contains(key));
        unread.map(|(section, name)| format!("[{section}] {name}")).collect()
    }

    fn merge(&mut self, text: &str) -> Result<(), (usize, &'static str)> {
        let mut section = "DEFAULT".to_string();
        let mut here: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
        let mut last: Option<(String, String)> = None;

        for (number, line) in text.lines().enumerate() {
            let bare = line.trim();
            if bare.is_empty() || bare.starts_with(['#', ';']) {
                last = None;
            } else if line.starts_with([' ', '\t']) && last.is_some() {
                let value = last.as_ref().and_then(|key| here.get_mut(key)).and_then(|values| values.last_mut());
                let value = value.ok_or((number + 1, "a continued line without an option"))?;
                value.push('\n');
                value.push_str(bare);
            } else if let Some(name) = bare.strip_prefix('[') {
                section = name.strip_suffix(']').ok_or((number + 1, "a section without ']'"))?.trim().to_string();
                last = None;
            } else {
                let (name, value) =
                    bare.split_once(['=', ':']).ok_or((number + 1, "neither a section nor an option"))?;
                let key = (section.clone(), name.trim().to_string());
                here.entry(key.clone()).or_default().push(unquoted(value.trim()).to_string());
                last = Some(key);
            }
        }
        self.options.extend(here);
        Ok(())
    }
}

fn unquoted(value: &str) -> &str {
    let inner = |quote: char| value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

fn wrong(section: &str, name: &str, value: &str, why: &'static str) -> ConfigError {
    ConfigError::Value { section: section.into(), name: name.into(), value: value.into(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstreams_files_are_read() {
        let text = "debug = true\n[database]\nconnection = mysql+pymysql://n:p@db/nova?charset=utf8\n\n# note\n[pci]\n\
                    alias = {\"name\": \"a\"}\nalias = {\"name\": \"b\"}\nlong = one,\n  two\n";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.text("database", "connection"), Some("mysql+pymysql://n:p@db/nova?charset=utf8"));
        assert!(config.flag("DEFAULT", "debug", false).unwrap());
        assert_eq!(config.all("pci", "alias").len(), 2);
        assert_eq!(config.list("pci", "long"), ["one", "two"]);
        assert!(config.unknown().is_empty());
    }

    #[test]
    fn an_option_nobody_reads_is_reported() {
        let config = Config::parse("[DEFAULT]\ndebgu = true\n").unwrap();
        assert_eq!(config.unknown(), ["[DEFAULT] debgu"]);
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = Config::parse("[ok]\nnonsense\n").unwrap_err();
        assert_eq!(error.to_string(), "(text), line 2: neither a section nor an option");
    }
}
