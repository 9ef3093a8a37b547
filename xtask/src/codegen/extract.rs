//! From the kafka-clients jar to the tables: facts only, without Kafka's comments.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::shell;

use super::schema::{self, Field, Message, Struct, Type, Versions};

/// Reads `families.txt` and writes one table per family, `api_keys.txt` and `errors.txt`.
pub(crate) fn run(schema_dir: &Path, errors_program: &Path) -> Result<(), String> {
    let mut classpath = shell::program("bash");
    let classpath = shell::output(classpath.args(["interop/kafka/kafka", "classpath"]))?;
    let classpath = classpath.trim();
    let work = tempfile::tempdir().map_err(|e| format!("no temporary folder: {e}"))?;
    let jar = clients_jar(classpath)?;
    extract_messages(&jar, schema_dir, work.path())?;
    let mut java = shell::program("java");
    let errors = shell::output(java.args(["-cp", classpath]).arg(errors_program))?;
    let header = format!(
        "# Error codes of {}: code, name, is it retriable, does it ask for new metadata.\n",
        jar_name(&jar)
    );
    write(&schema_dir.join("errors.txt"), &(header + &errors))
}

/// The kafka-clients jar on a class path whose entries are jars or `FOLDER/*`.
fn clients_jar(classpath: &str) -> Result<PathBuf, String> {
    let is_clients = |path: &Path| {
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        name.starts_with("kafka-clients-") && name.ends_with(".jar") && !name.contains("-test")
    };
    for entry in classpath.split(':') {
        let jars = match entry.strip_suffix("/*") {
            Some(folder) => {
                let entries = fs::read_dir(folder).map_err(|e| format!("{folder}: {e}"))?;
                entries.filter_map(|e| Some(e.ok()?.path())).collect()
            }
            None => vec![PathBuf::from(entry)],
        };
        if let Some(jar) = jars.into_iter().find(|jar| is_clients(jar)) {
            return Ok(jar);
        }
    }
    Err(format!("no kafka-clients jar on the class path {classpath}"))
}

fn extract_messages(jar: &Path, schema_dir: &Path, work: &Path) -> Result<(), String> {
    let mut unpack = Command::new("jar");
    shell::run(unpack.current_dir(work).arg("xf").arg(jar).arg("common/message"))?;
    let messages = work.join("common/message");
    for family in super::families(schema_dir)? {
        let table: Vec<Message> = if family == "Header" {
            vec![read(&messages, "RequestHeader")?, read(&messages, "ResponseHeader")?]
        } else {
            vec![
                read(&messages, &format!("{family}Request"))?,
                read(&messages, &format!("{family}Response"))?,
            ]
        };
        let text = format!(
            "# {family}: facts of {}, written by `cargo xtask codegen --extract`.\n{}",
            jar_name(jar),
            schema::print(&table)
        );
        write(&schema_dir.join(super::table_name(&family)), &text)?;
    }
    write(&schema_dir.join("api_keys.txt"), &api_keys(&messages, jar)?)
}

fn jar_name(jar: &Path) -> String {
    jar.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// One line per API that Kafka still serves: key, name, versions, flexible from.
fn api_keys(messages: &Path, jar: &Path) -> Result<String, String> {
    let mut rows = Vec::new();
    let entries = fs::read_dir(messages).map_err(|e| format!("{}: {e}", messages.display()))?;
    for entry in entries {
        let name = entry.map_err(|e| e.to_string())?.file_name().to_string_lossy().into_owned();
        let Some(api) = name.strip_suffix("Request.json") else { continue };
        let message = read(messages, &format!("{api}Request"))?;
        if let (Some(key), false) = (message.key, message.versions.is_none()) {
            let response = read(messages, &format!("{api}Response"))?;
            let (request, response) = (message.flexible, response.flexible);
            if request != response {
                return Err(format!("{api}: flexible {request} but its response {response}"));
            }
            let unstable = if message.unstable { " unstable" } else { "" };
            rows.push((key, format!("{key} {api} {} {request}{unstable}\n", message.versions)));
        }
    }
    rows.sort();
    let mut out = format!("# APIs of {}: key, name, versions, flexible versions.\n", jar_name(jar));
    out.extend(rows.into_iter().map(|(_, row)| row));
    Ok(out)
}

fn read(messages: &Path, name: &str) -> Result<Message, String> {
    let path = messages.join(format!("{name}.json"));
    let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    // Comments stand on lines of their own.
    let json: String =
        text.lines().filter(|l| !l.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let json: Value = serde_json::from_str(&json).map_err(|e| format!("{name}: {e}"))?;
    message(&json).map_err(|e| format!("{name}: {e}"))
}

fn message(json: &Value) -> Result<Message, String> {
    let name = text(json, "name")?;
    let versions = Versions::parse(&text(json, "validVersions")?)?;
    let flexible = match text(json, "flexibleVersions") {
        Ok(flexible) => Versions::parse(&flexible)?,
        Err(_) => Versions::NONE,
    };
    let mut structs = vec![Struct { name: name.clone(), fields: Vec::new() }];
    let fields = fields(json, &mut structs)?;
    structs[0].fields = fields;
    for shared in json["commonStructs"].as_array().into_iter().flatten() {
        add_struct(&text(shared, "name")?, shared, &mut structs)?;
    }
    Ok(Message {
        name,
        kind: text(json, "type")?,
        key: json["apiKey"].as_i64().and_then(|k| i16::try_from(k).ok()),
        versions,
        flexible,
        unstable: json["latestVersionUnstable"].as_bool().unwrap_or(false),
        structs,
    })
}

fn add_struct(name: &str, json: &Value, structs: &mut Vec<Struct>) -> Result<(), String> {
    let index = structs.len();
    structs.push(Struct { name: name.to_owned(), fields: Vec::new() });
    let fields = fields(json, structs)?;
    structs[index].fields = fields;
    Ok(())
}

fn fields(json: &Value, structs: &mut Vec<Struct>) -> Result<Vec<Field>, String> {
    let mut fields = Vec::new();
    for field in json["fields"].as_array().into_iter().flatten() {
        let kind = Type::parse(&text(field, "type")?);
        if let Some(name) = kind.struct_name()
            && !field["fields"].is_null()
        {
            add_struct(name, field, structs)?;
        }
        let versions = |name: &str| text(field, name).map(|v| Versions::parse(&v));
        let tag = match field["tag"].as_u64().and_then(|t| u32::try_from(t).ok()) {
            Some(tag) => Some((tag, Versions::parse(&text(field, "taggedVersions")?)?)),
            None => None,
        };
        fields.push(Field {
            name: text(field, "name")?,
            kind,
            versions: Versions::parse(&text(field, "versions")?)?,
            nullable: versions("nullableVersions").unwrap_or(Ok(Versions::NONE))?,
            tag,
            default: match &field["default"] {
                Value::String(default) if default.is_empty() => None,
                Value::String(default) => Some(default.clone()),
                Value::Null => None,
                other => Some(other.to_string()),
            },
            ignorable: field["ignorable"].as_bool().unwrap_or(false),
            flexible: versions("flexibleVersions").ok().transpose()?,
        });
    }
    Ok(fields)
}

fn text(json: &Value, name: &str) -> Result<String, String> {
    json[name].as_str().map(str::to_owned).ok_or_else(|| format!("{name} is missing"))
}
