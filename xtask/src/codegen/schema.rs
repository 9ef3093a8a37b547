//! The tables under `crates/sordini-protocol/schema/`: what a message consists of.
//!
//! ```text
//! message FetchRequest kind=request key=1 versions=4-18 flexible=12+
//!   ClusterId string 12+ nullable=12+ tag=0:12+ default=null ignorable
//!   Topics []FetchTopic 0+
//!     Topic string 0-12 ignorable
//! ```
//! A struct's fields stand indented below the first field of its type, or below a `struct` line
//! where several fields share it.

use std::fmt::Write as _;

/// A range of versions, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    pub(crate) low: i16,
    pub(crate) high: i16,
}

impl Versions {
    pub(crate) const NONE: Self = Self { low: 1, high: 0 };

    /// Parses Kafka's notation: `3`, `3+`, `0-12`, `none`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let number = |t: &str| t.parse::<i16>().map_err(|_| format!("not a version range: {text}"));
        if text == "none" {
            Ok(Self::NONE)
        } else if let Some(low) = text.strip_suffix('+') {
            Ok(Self { low: number(low)?, high: i16::MAX })
        } else if let Some((low, high)) = text.split_once('-') {
            Ok(Self { low: number(low)?, high: number(high)? })
        } else {
            let version = number(text)?;
            Ok(Self { low: version, high: version })
        }
    }

    pub(crate) fn is_none(self) -> bool {
        self.low > self.high
    }

    pub(crate) fn intersect(self, other: Self) -> Self {
        let both = Self { low: self.low.max(other.low), high: self.high.min(other.high) };
        if both.is_none() { Self::NONE } else { both }
    }
}

impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            v if v.is_none() => f.write_str("none"),
            Self { low, high: i16::MAX } => write!(f, "{low}+"),
            Self { low, high } if low == high => write!(f, "{low}"),
            Self { low, high } => write!(f, "{low}-{high}"),
        }
    }
}

/// The type of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    /// bool, int8 .. int64, uint16, uint32, float64, uuid: of one size.
    Fixed(String),
    String,
    Bytes,
    Records,
    Struct(String),
    Array(Box<Self>),
}

impl Type {
    pub(crate) fn parse(text: &str) -> Self {
        match text {
            "bool" | "int8" | "int16" | "uint16" | "int32" | "uint32" | "int64" | "float64"
            | "uuid" => Self::Fixed(text.to_owned()),
            "string" => Self::String,
            "bytes" => Self::Bytes,
            "records" => Self::Records,
            _ => match text.strip_prefix("[]") {
                Some(element) => Self::Array(Box::new(Self::parse(element))),
                None => Self::Struct(text.to_owned()),
            },
        }
    }

    /// The struct that this is, or is an array of.
    pub(crate) fn struct_name(&self) -> Option<&str> {
        match self {
            Self::Struct(name) => Some(name),
            Self::Array(element) => element.struct_name(),
            _ => None,
        }
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(name) | Self::Struct(name) => f.write_str(name),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("bytes"),
            Self::Records => f.write_str("records"),
            Self::Array(element) => write!(f, "[]{element}"),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: String,
    pub(crate) kind: Type,
    pub(crate) versions: Versions,
    pub(crate) nullable: Versions,
    pub(crate) tag: Option<(u32, Versions)>,
    pub(crate) default: Option<String>,
    pub(crate) ignorable: bool,
    /// The field's own flexible versions, where they differ from the message's.
    pub(crate) flexible: Option<Versions>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Struct {
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) name: String,
    /// `request`, `response` or `header`.
    pub(crate) kind: String,
    pub(crate) key: Option<i16>,
    pub(crate) versions: Versions,
    pub(crate) flexible: Versions,
    /// The newest version is not served by default.
    pub(crate) unstable: bool,
    /// The message's own fields first, then each struct it uses.
    pub(crate) structs: Vec<Struct>,
}

impl Message {
    pub(crate) fn find(&self, name: &str) -> Option<&Struct> {
        self.structs.iter().find(|s| s.name == name)
    }
}

/// Writes messages as a table.
pub(crate) fn print(messages: &[Message]) -> String {
    let mut out = String::new();
    for message in messages {
        let key = message.key.map(|k| format!(" key={k}")).unwrap_or_default();
        let unstable = if message.unstable { " unstable" } else { "" };
        let Message { name, kind, versions, flexible, .. } = message;
        let _ = writeln!(
            out,
            "message {name} kind={kind}{key} versions={versions} flexible={flexible}{unstable}"
        );
        let mut printed = vec![name.clone()];
        let shared = shared_structs(message);
        if let Some(root) = message.structs.first() {
            print_fields(&mut out, message, root, 1, &mut printed, &shared);
        }
        for name in &shared {
            let _ = writeln!(out, "  struct {name}");
            if let Some(shared_struct) = message.find(name) {
                print_fields(&mut out, message, shared_struct, 2, &mut printed, &shared);
            }
        }
    }
    out
}

fn shared_structs(message: &Message) -> Vec<String> {
    let uses = |name: &str| {
        let fields = message.structs.iter().flat_map(|s| &s.fields);
        fields.filter(|f| f.kind.struct_name() == Some(name)).count()
    };
    message.structs.iter().skip(1).filter(|s| uses(&s.name) > 1).map(|s| s.name.clone()).collect()
}

fn print_fields(
    out: &mut String,
    message: &Message,
    owner: &Struct,
    depth: usize,
    printed: &mut Vec<String>,
    shared: &[String],
) {
    for field in &owner.fields {
        let _ = write!(out, "{:1$}", "", depth * 2);
        let _ = write!(out, "{} {} {}", field.name, field.kind, field.versions);
        if !field.nullable.is_none() {
            let _ = write!(out, " nullable={}", field.nullable);
        }
        if let Some((tag, versions)) = &field.tag {
            let _ = write!(out, " tag={tag}:{versions}");
        }
        if let Some(default) = &field.default {
            let _ = write!(out, " default={default}");
        }
        if let Some(flexible) = field.flexible {
            let _ = write!(out, " flexible={flexible}");
        }
        out.push_str(if field.ignorable { " ignorable\n" } else { "\n" });
        if let Some(name) = field.kind.struct_name()
            && !shared.iter().any(|s| s == name)
            && !printed.iter().any(|p| p == name)
            && let Some(inner) = message.find(name)
        {
            printed.push(name.to_owned());
            print_fields(out, message, inner, depth + 1, printed, shared);
        }
    }
}

/// Parses a table.
pub(crate) fn parse(table: &str) -> Result<Vec<Message>, String> {
    let mut messages: Vec<Message> = Vec::new();
    // The struct that a line of each depth belongs to, as an index into `structs`.
    let mut owners: Vec<usize> = Vec::new();
    for (number, line) in table.lines().enumerate() {
        let text = line.trim_start();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let depth = (line.len() - text.len()) / 2;
        let at = |error: String| format!("line {}: {error}", number + 1);
        let words: Vec<&str> = text.split_whitespace().collect();
        match (words.as_slice(), messages.last_mut()) {
            (["message", name, attributes @ ..], _) => {
                messages.push(parse_message(name, attributes).map_err(at)?);
                owners = vec![0, 0];
            }
            (["struct", name], Some(message)) if depth == 1 => {
                message.structs.push(Struct { name: (*name).to_owned(), fields: Vec::new() });
                owners = vec![0, 0, message.structs.len() - 1];
            }
            ([name, kind, versions, attributes @ ..], Some(message)) => {
                let field = parse_field(name, kind, versions, attributes).map_err(at)?;
                owners.truncate(depth + 1);
                let owner = *owners.get(depth).ok_or_else(|| at("indented too deep".into()))?;
                let inner = field.kind.struct_name().map(str::to_owned);
                message.structs[owner].fields.push(field);
                if let Some(inner) = inner {
                    // Its fields may follow; a type that stays empty is dropped below.
                    message.structs.push(Struct { name: inner, fields: Vec::new() });
                    owners.push(message.structs.len() - 1);
                }
            }
            _ => return Err(at(format!("neither a message, a struct nor a field: {text}"))),
        }
    }
    for message in &mut messages {
        let name = message.name.clone();
        message.structs.retain(|s| s.name == name || !s.fields.is_empty());
        for field in message.structs.iter().flat_map(|s| &s.fields) {
            if let Some(used) = field.kind.struct_name()
                && message.find(used).is_none()
            {
                return Err(format!("{name}: {used} has no fields"));
            }
        }
    }
    Ok(messages)
}

fn parse_message(name: &str, attributes: &[&str]) -> Result<Message, String> {
    let mut message = Message {
        name: name.to_owned(),
        kind: String::new(),
        key: None,
        versions: Versions::NONE,
        flexible: Versions::NONE,
        unstable: false,
        structs: vec![Struct { name: name.to_owned(), fields: Vec::new() }],
    };
    for attribute in attributes {
        match attribute.split_once('=') {
            Some(("kind", kind)) => message.kind = kind.to_owned(),
            Some(("key", key)) => {
                message.key = Some(key.parse().map_err(|_| format!("not a key: {key}"))?);
            }
            Some(("versions", versions)) => message.versions = Versions::parse(versions)?,
            Some(("flexible", versions)) => message.flexible = Versions::parse(versions)?,
            None if *attribute == "unstable" => message.unstable = true,
            _ => return Err(format!("{name}: unknown attribute {attribute}")),
        }
    }
    Ok(message)
}

fn parse_field(
    name: &str,
    kind: &str,
    versions: &str,
    attributes: &[&str],
) -> Result<Field, String> {
    let mut field = Field {
        name: name.to_owned(),
        kind: Type::parse(kind),
        versions: Versions::parse(versions)?,
        nullable: Versions::NONE,
        tag: None,
        default: None,
        ignorable: false,
        flexible: None,
    };
    for attribute in attributes {
        match attribute.split_once('=') {
            Some(("nullable", versions)) => field.nullable = Versions::parse(versions)?,
            Some(("tag", tag)) => {
                let (tag, versions) = tag.split_once(':').ok_or("a tag without versions")?;
                let tag = tag.parse().map_err(|_| format!("not a tag: {tag}"))?;
                field.tag = Some((tag, Versions::parse(versions)?));
            }
            Some(("default", default)) => field.default = Some(default.to_owned()),
            Some(("flexible", versions)) => field.flexible = Some(Versions::parse(versions)?),
            None if *attribute == "ignorable" => field.ignorable = true,
            _ => return Err(format!("{name}: unknown attribute {attribute}")),
        }
    }
    Ok(field)
}
