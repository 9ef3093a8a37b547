//! From the tables to Rust for tests: values of every message that a version can carry.

use std::fmt::Write as _;

use super::emit::field::FieldCx;
use super::emit::{Context, MARKER, Test, mentions};
use super::schema::{Message, Struct, Type};

/// `tests/support/samples.rs`: `Sample` for every struct, and the list of all messages.
pub(crate) fn samples(families: &[(String, Vec<Message>)]) -> Result<String, String> {
    let mut out = format!(
        "{MARKER}//! Values of every message that a version can carry, drawn from a [`Source`].
        #![allow(clippy::field_reassign_with_default, reason = \"the fields depend on the version\")]

        use sordini_protocol::messages::*;

        use super::{{Sample, Source, Visitor}};\n\n"
    );
    let mut visits = String::new();
    for (family, messages) in families {
        let module = super::snake_case(family);
        for message in messages {
            let cx = Context::new(message, messages)?;
            for owner in cx.used_structs() {
                implement(&mut out, &module, &cx, owner)?;
            }
            let name = &message.name;
            let _ = writeln!(visits, "visitor.message::<{module}::{name}>(\"{name}\");");
        }
    }
    let _ = writeln!(
        out,
        "/// Shows the visitor every message, under Kafka's name.
        pub(crate) fn every_message(visitor: &mut impl Visitor) {{ {visits} }}"
    );
    Ok(out)
}

fn implement(
    out: &mut String,
    module: &str,
    cx: &Context<'_>,
    owner: &Struct,
) -> Result<(), String> {
    let mut body = String::new();
    for f in cx.fields(owner) {
        let name = f.field.name.as_str();
        let label = super::snake(name);
        let rust = f.rust_name();
        let value = nullable_value(&f, &label)?;
        let mut tests = Vec::new();
        if let Test::Sometimes(test) = f.present() {
            tests.push(test);
        }
        if f.field.tag.is_some() {
            tests.push(format!("source.is_set(\"{label}\")"));
        }
        let _ = if tests.is_empty() {
            writeln!(body, "it.{rust} = {value};")
        } else {
            writeln!(body, "if {} {{ it.{rust} = {value}; }}", tests.join(" && "))
        };
    }
    let version = if mentions(&body, "version") { "version" } else { "_version" };
    let name = cx.rust_name(owner);
    let _ = writeln!(
        out,
        "impl Sample for {module}::{name} {{
            fn sample(source: &mut dyn Source, {version}: i16) -> Self {{
                let mut it = Self::default();
                {}
                it
            }}
        }}\n",
        body.trim_end()
    );
    Ok(())
}

fn nullable_value(f: &FieldCx<'_>, label: &str) -> Result<String, String> {
    let value = value(f, &f.field.kind, label)?;
    if !f.is_nullable() {
        return Ok(value);
    }
    let may_be_null = match Test::of(f.field.nullable, f.present_versions()) {
        Test::Sometimes(test) => format!("({test}) && "),
        _ => String::new(),
    };
    Ok(format!("if {may_be_null}source.is_null(\"{label}\") {{ None }} else {{ Some({value}) }}"))
}

fn value(f: &FieldCx<'_>, kind: &Type, label: &str) -> Result<String, String> {
    Ok(match kind {
        Type::Fixed(name) => match name.as_str() {
            "bool" => format!("source.flag(\"{label}\")"),
            "uuid" => format!("source.uuid(\"{label}\")"),
            "float64" => format!("source.number(\"{label}\") as f64"),
            "int64" => format!("source.number(\"{label}\")"),
            _ => format!("source.number(\"{label}\") as {}", f.bare_type(kind)?),
        },
        Type::String => format!("source.text(\"{label}\")"),
        Type::Bytes | Type::Records => format!("source.bytes(\"{label}\").into()"),
        Type::Struct(_) => "Sample::sample(source, version)".into(),
        Type::Array(element) => format!(
            "(0..source.count(\"{label}\")).map(|_| {}).collect()",
            value(f, element, label)?
        ),
    })
}
