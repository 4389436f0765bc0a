//! Lays the sources of the configuration over each other, key by key, and reports every fault.

use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};

use serde::{
    Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_yaml::Value;

use super::{Config, rules};
use crate::authorities::Authorities;

/// The project's `config.yaml`: every key with its default.
pub const DEFAULTS: &str = include_str!("../../../config.yaml");

/// Keys whose value is a secret, or holds one.
pub const SECRETS: [&str; 3] = ["rabbitmq.url", "database.url", "auth.hs256_secret"];

/// The short names of the first release, and the keys they set.
pub const SHORT_NAMES: [(&str, &str); 4] = [
    ("RABBITMQ_URL", "rabbitmq.url"),
    ("DATABASE_URL", "database.url"),
    ("WORKERS", "workers"),
    ("JWT_SECRET", "auth.hs256_secret"),
];

const PREFIX: &str = "JATIS__";

/// Everything a configuration is made from. Reading files is left to the caller's function.
pub struct Inputs<'a> {
    /// `--set key=value`, in the order given; the last of a key counts.
    pub flags: Vec<(String, String)>,
    pub env: BTreeMap<String, String>,
    /// The configuration file's path and text, if there is one.
    pub file: Option<(PathBuf, String)>,
    pub read: &'a dyn Fn(&Path) -> io::Result<String>,
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Flag,
    /// The environment variable of this name.
    Variable(String),
    /// The file named by the environment variable of this name.
    VariableFile(String),
    /// A file of `$CREDENTIALS_DIRECTORY`.
    Credential(PathBuf),
    /// The configuration file, and the line in it.
    File(PathBuf, Option<usize>),
    Default,
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => out.write_str("--set"),
            Self::Variable(name) | Self::VariableFile(name) => out.write_str(name),
            Self::Credential(path) | Self::File(path, None) => write!(out, "{}", path.display()),
            Self::File(path, Some(line)) => write!(out, "{}:{line}", path.display()),
            Self::Default => out.write_str("default"),
        }
    }
}

/// A configuration with the source of each of its keys.
#[derive(Debug)]
pub struct Loaded {
    pub config: Config,
    /// By key: the value as text, secrets redacted, and its source.
    pub origins: BTreeMap<String, (String, Source)>,
}

/// One fault of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub source: Source,
    pub key: String,
    pub detail: String,
}

/// Every fault that was found; never empty.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|Fault { source, key, detail }| format!("{source}: {key} {detail}")).collect::<Vec<_>>().join("\n"))]
pub struct Faults(pub Vec<Fault>);

/// Makes the configuration of these inputs.
///
/// # Errors
/// Every unknown key, unreadable file, value of a wrong type or out of bounds, each with where it
/// stands. Nothing is applied in part.
pub fn load(inputs: &Inputs<'_>) -> Result<Loaded, Faults> {
    let defaults = flatten(&parse(DEFAULTS).unwrap_or(Value::Null));
    let values = defaults
        .iter()
        .map(|(key, value)| (key.clone(), (value.clone(), Source::Default)));
    let mut layers = Layers {
        defaults: &defaults,
        values: values.collect(),
        faults: Vec::new(),
    };
    layers.file(inputs);
    layers.credentials(inputs);
    layers.variables(inputs);
    layers.flags(inputs);
    layers.check_types();
    layers.finish(inputs)
}

/// The configuration of `config.yaml` alone, for tests and for documents.
///
/// # Errors
/// When the built-in file is at fault, which a test rules out.
pub fn defaults() -> Result<Config, Faults> {
    let inputs = Inputs {
        flags: Vec::new(),
        env: BTreeMap::new(),
        file: None,
        read: &|path| {
            Err(io::Error::other(format!(
                "{} is not read for the defaults",
                path.display()
            )))
        },
    };
    load(&inputs).map(|loaded| loaded.config)
}

struct Layers<'a> {
    /// Every key there is, with a value of its type.
    defaults: &'a BTreeMap<String, Value>,
    values: BTreeMap<String, (Value, Source)>,
    faults: Vec<Fault>,
}

impl Layers<'_> {
    fn fault(&mut self, source: Source, key: &str, detail: impl Into<String>) {
        self.faults.push(Fault {
            source,
            key: key.to_owned(),
            detail: detail.into(),
        });
    }

    fn file(&mut self, inputs: &Inputs<'_>) {
        let Some((path, text)) = &inputs.file else {
            return;
        };
        let tree = match parse(text) {
            Ok(tree) => tree,
            Err(error) => {
                let line = error.location().map(|at| at.line());
                return self.fault(
                    Source::File(path.clone(), line),
                    "",
                    format!("is not YAML: {error}"),
                );
            }
        };
        for (key, value) in flatten(&tree) {
            let source = Source::File(path.clone(), line_of(text, &key));
            if !self.defaults.contains_key(&key) {
                self.fault(source, &key, "is not a key of jatis");
            } else if !value.is_null() {
                self.values.insert(key, (value, source));
            }
        }
    }

    fn credentials(&mut self, inputs: &Inputs<'_>) {
        let Some(directory) = inputs.env.get("CREDENTIALS_DIRECTORY") else {
            return;
        };
        for key in self.defaults.keys() {
            let path = Path::new(directory).join(key);
            let source = Source::Credential(path.clone());
            match (inputs.read)(&path) {
                Ok(text) => self.text(key, text.trim_end_matches(['\r', '\n']), source),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.fault(source, key, format!("cannot be read: {error}")),
            }
        }
    }

    /// The short names first, so that the long ones win over them.
    fn variables(&mut self, inputs: &Inputs<'_>) {
        for (name, key) in SHORT_NAMES {
            self.variable(inputs, name, key);
        }
        let keys: BTreeMap<String, &String> = self
            .defaults
            .keys()
            .map(|key| {
                (
                    format!("{PREFIX}{}", key.to_uppercase().replace('.', "__")),
                    key,
                )
            })
            .collect();
        for (name, key) in &keys {
            self.variable(inputs, name, key);
        }
        for name in inputs.env.keys().filter(|name| name.starts_with(PREFIX)) {
            if !keys.contains_key(name)
                && !name
                    .strip_suffix("_FILE")
                    .is_some_and(|name| keys.contains_key(name))
            {
                self.fault(
                    Source::Variable(name.clone()),
                    "",
                    "is not a variable of jatis",
                );
            }
        }
    }

    fn variable(&mut self, inputs: &Inputs<'_>, name: &str, key: &str) {
        let file_name = format!("{name}_FILE");
        match (inputs.env.get(name), inputs.env.get(&file_name)) {
            (None, None) => {}
            (Some(value), None) => self.text(key, value, Source::Variable(name.to_owned())),
            (None, Some(path)) => {
                let source = Source::VariableFile(file_name);
                match (inputs.read)(Path::new(path)) {
                    Ok(text) => self.text(key, text.trim_end_matches(['\r', '\n']), source),
                    Err(error) => {
                        self.fault(source, key, format!("cannot be read from {path}: {error}"))
                    }
                }
            }
            (Some(_), Some(_)) => {
                self.fault(
                    Source::Variable(name.to_owned()),
                    key,
                    format!("is given by {file_name} as well"),
                );
            }
        }
    }

    fn flags(&mut self, inputs: &Inputs<'_>) {
        for (key, value) in &inputs.flags {
            if self.defaults.contains_key(key) {
                self.text(key, value, Source::Flag);
            } else {
                self.fault(Source::Flag, key, "is not a key of jatis");
            }
        }
    }

    /// A value from where everything is text: kept as text where the default is text, so that the
    /// password 0123 stays one; taken apart at commas where it is a list, unless it is written as
    /// one; read as YAML elsewhere.
    fn text(&mut self, key: &str, text: &str, source: Source) {
        let value = match self.defaults.get(key) {
            Some(Value::String(_)) => Ok(Value::String(text.to_owned())),
            Some(Value::Sequence(_)) if !text.trim_start().starts_with('[') => Ok(list(text)),
            _ => parse(text),
        };
        match value {
            Ok(value) => drop(self.values.insert(key.to_owned(), (value, source))),
            Err(error) => self.fault(source, key, format!("is not readable: {error}")),
        }
    }

    /// Tries each changed value alone among the defaults: whatever then fails is its fault. The
    /// default takes its place, so that the rules can be held against the rest.
    fn check_types(&mut self) {
        let defaults = self.defaults;
        let changed: Vec<_> = self
            .values
            .iter()
            .filter(|(_, (_, source))| *source != Source::Default)
            .collect();
        let mut faults = Vec::new();
        for (key, (value, source)) in changed {
            let mut tree = defaults.clone();
            tree.insert(key.clone(), value.clone());
            if let Err(error) = typed(&tree) {
                let detail = if SECRETS.contains(&key.as_str()) {
                    "must be a text".to_owned()
                } else {
                    error.to_string()
                };
                let detail = detail.strip_prefix(&format!("{key}: ")).unwrap_or(&detail);
                faults.push(Fault {
                    source: source.clone(),
                    key: key.clone(),
                    detail: format!("does not fit: {detail}"),
                });
            }
        }
        for Fault { key, .. } in &faults {
            if let Some(default) = defaults.get(key) {
                self.values
                    .insert(key.clone(), (default.clone(), Source::Default));
            }
        }
        self.faults.append(&mut faults);
    }

    /// The authorities that the file named by this key holds; none when there is no name.
    fn authorities(&mut self, inputs: &Inputs<'_>, key: &str, path: &str) -> Authorities {
        if path.is_empty() {
            return Authorities::default();
        }
        let text = (inputs.read)(Path::new(path))
            .map_err(|error| format!("cannot be read from {path}: {error}"));
        let found = text.and_then(|text| {
            Authorities::from_pem(&text).map_err(|error| format!("names {path}, which {error}"))
        });
        found.unwrap_or_else(|detail| {
            self.fault(self.source_of(key), key, detail);
            Authorities::default()
        })
    }

    fn source_of(&self, key: &str) -> Source {
        let value = self.values.get(key);
        value.map_or(Source::Default, |(_, source)| source.clone())
    }

    fn finish(mut self, inputs: &Inputs<'_>) -> Result<Loaded, Faults> {
        let tree = self
            .values
            .iter()
            .map(|(key, (value, _))| (key.clone(), value.clone()))
            .collect();
        let mut config = typed(&tree).map_err(|error| {
            Faults(vec![Fault {
                source: Source::Default,
                key: String::new(),
                detail: error.to_string(),
            }])
        })?;
        let (rabbitmq, database) = (&mut config.rabbitmq, &mut config.database);
        rabbitmq.authorities = self.authorities(inputs, "rabbitmq.ca_file", &rabbitmq.ca_file);
        database.authorities = self.authorities(inputs, "database.ca_file", &database.ca_file);
        for breach in rules::breaches(&config) {
            self.fault(self.source_of(breach.key), breach.key, breach.detail);
        }
        if !self.faults.is_empty() {
            return Err(Faults(self.faults));
        }
        let origins = self.values.into_iter().map(|(key, (value, source))| {
            let shown = shown(&key, &value);
            (key, (shown, source))
        });
        Ok(Loaded {
            config,
            origins: origins.collect(),
        })
    }
}

fn parse(text: &str) -> Result<Value, serde_yaml::Error> {
    serde_yaml::from_str(text)
}

/// The parts between commas; nothing is an empty list.
fn list(text: &str) -> Value {
    let parts = text.split(',').map(str::trim);
    let parts = parts.filter(|part| !part.is_empty());
    Value::Sequence(parts.map(Value::from).collect())
}

/// A value on one line.
fn shown(key: &str, value: &Value) -> String {
    let empty = value.as_str().is_some_and(str::is_empty);
    if SECRETS.contains(&key) && !empty {
        return "[redacted]".to_owned();
    }
    let text = if value.is_sequence() {
        // A list as JSON is a list as YAML too.
        serde_json::to_string(value).map_err(|error| error.to_string())
    } else {
        serde_yaml::to_string(value).map_err(|error| error.to_string())
    };
    text.map_or_else(|error| error, |text| text.trim_end().to_owned())
}

/// A tree of sections as `section.key` → value.
fn flatten(tree: &Value) -> BTreeMap<String, Value> {
    fn walk(prefix: &str, value: &Value, flat: &mut BTreeMap<String, Value>) {
        let Some(mapping) = value.as_mapping() else {
            if !prefix.is_empty() || !value.is_null() {
                flat.insert(prefix.to_owned(), value.clone());
            }
            return;
        };
        for (key, value) in mapping {
            let key = key
                .as_str()
                .map_or_else(|| format!("{key:?}"), str::to_owned);
            let path = if prefix.is_empty() {
                key
            } else {
                format!("{prefix}.{key}")
            };
            // A section whose keys are all commented out is empty, not a fault.
            if !(value.is_null() && DEFAULTS.contains(&format!("\n{path}:\n"))) {
                walk(&path, value, flat);
            }
        }
    }
    let mut flat = BTreeMap::new();
    walk("", tree, &mut flat);
    flat
}

/// Flat keys as the typed configuration.
fn typed(flat: &BTreeMap<String, Value>) -> Result<Config, serde_yaml::Error> {
    let mut root = serde_yaml::Mapping::new();
    for (path, value) in flat {
        match path.split_once('.') {
            None => drop(root.insert(path.as_str().into(), value.clone())),
            Some((section, key)) => {
                let section = root
                    .entry(section.into())
                    .or_insert_with(|| Value::Mapping(serde_yaml::Mapping::new()));
                if let Some(mapping) = section.as_mapping_mut() {
                    mapping.insert(key.into(), value.clone());
                }
            }
        }
    }
    serde_yaml::from_value(Value::Mapping(root))
}

/// The line of a key. The parser gives places only with its errors, so one is provoked there.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let path: Vec<&str> = key.split('.').collect();
    let error = Descend(&path)
        .deserialize(serde_yaml::Deserializer::from_str(text))
        .err()?;
    error.location().map(|at| at.line())
}

struct Descend<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for Descend<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// Accepts mappings on the way and nothing at the end of it: the refusal carries the place.
impl<'de> Visitor<'de> for Descend<'_> {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("the key that is looked for")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((first, rest)) = self.0.split_first() else {
            return Err(A::Error::custom("found"));
        };
        while let Some(key) = map.next_key::<String>()? {
            if key == *first {
                map.next_value_seed(Descend(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
