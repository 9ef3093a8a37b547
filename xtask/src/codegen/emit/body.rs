//! The bodies of a struct's methods.

use std::fmt::Write as _;

use super::super::schema::{Type, Versions};
use super::Test;
use super::field::{FieldCx, Size};

pub(super) fn emit_read(
    fields: &[FieldCx<'_>],
    flexible: &Test,
    owner: &str,
) -> Result<String, String> {
    let mut out = String::new();
    let tagged: Vec<&FieldCx<'_>> = fields.iter().filter(|f| f.field.tag.is_some()).collect();
    let binding = if tagged.is_empty() { "let it" } else { "let mut it" };
    let plain_end = *flexible == Test::Never;
    out.push_str(if plain_end { "Ok(Self {" } else { binding });
    if !plain_end {
        out.push_str(" = Self {");
    }
    for f in fields {
        let name = f.rust_name();
        let default = f.default()?.value;
        let value = match (&f.field.tag, f.present()) {
            (Some(_), _) => default,
            (None, Test::Sometimes(test)) => {
                format!("if {test} {{ {} }} else {{ {default} }}", f.read()?)
            }
            (None, _) => f.read()?,
        };
        let _ = writeln!(out, "{name}: {value},");
    }
    if plain_end {
        out.push_str("})");
        return Ok(out);
    }
    out.push_str("};\n");
    let mut tags = String::new();
    if tagged.is_empty() {
        let _ = writeln!(tags, "r.tagged_fields(\"{owner}\", |_, _| Ok(false))?;");
    } else {
        let _ = writeln!(tags, "r.tagged_fields(\"{owner}\", |r, tag| {{ match tag {{");
        for f in tagged {
            let (tag, versions) = f.field.tag.ok_or("a tagged field without tag")?;
            let guard = match Test::of(versions, flexible_hull(f)) {
                Test::Sometimes(test) => format!(" if {test}"),
                _ => String::new(),
            };
            let _ = writeln!(tags, "{tag}{guard} => {{ it.{} = {}; }}", f.rust_name(), f.read()?);
        }
        tags.push_str("_ => return Ok(false),\n} Ok(true) })?;\n");
    }
    match flexible {
        Test::Sometimes(_) => {
            let _ = writeln!(out, "if flexible {{ {tags} }}");
        }
        _ => out.push_str(&tags),
    }
    out.push_str("Ok(it)");
    Ok(out)
}

/// The versions of a struct that have tagged fields at all.
fn flexible_hull(f: &FieldCx<'_>) -> Versions {
    f.cx.message.flexible.intersect(f.valid)
}

pub(super) fn emit_write(fields: &[FieldCx<'_>], flexible: &Test) -> Result<String, String> {
    let mut out = String::new();
    for f in fields.iter().filter(|f| f.field.tag.is_none()) {
        let write = f.write()?;
        match f.present() {
            Test::Sometimes(test) if f.field.ignorable => {
                let _ = writeln!(out, "if {test} {{ {write} }}");
            }
            Test::Sometimes(test) => {
                let (differs, label) = (f.default()?.differs, f.label());
                let _ = writeln!(
                    out,
                    "if {test} {{ {write} }} else if {differs} {{ return Err(encode::not_in_version(\"{label}\", version)); }}"
                );
            }
            _ => out.push_str(&write),
        }
    }
    let mut tagged: Vec<&FieldCx<'_>> = fields.iter().filter(|f| f.field.tag.is_some()).collect();
    tagged.sort_by_key(|f| f.field.tag.as_ref().map(|(tag, _)| *tag));
    let mut tags = String::new();
    for f in &tagged {
        let (tag, versions) = f.field.tag.ok_or("a tagged field without tag")?;
        let (differs, label) = (f.default()?.differs, f.label());
        let present = Test::of(versions, f.valid);
        if let (Test::Sometimes(test), false) = (&present, f.field.ignorable) {
            let absent = match test.strip_prefix("version >= ") {
                Some(low) => format!("version < {low}"),
                None => format!("!({test})"),
            };
            let _ = writeln!(
                out,
                "if {absent} && {differs} {{ return Err(encode::not_in_version(\"{label}\", version)); }}"
            );
        }
        let test = match Test::of(versions, flexible_hull(f)) {
            Test::Sometimes(test) => format!("{test} && {differs}"),
            _ => differs,
        };
        let write = f.write()?;
        let _ = writeln!(
            tags,
            "if {test} {{ tags.add(\"{label}\", {tag}, |out| {{ {write} Ok(()) }})?; }}"
        );
    }
    let tags = if tagged.is_empty() {
        "out.push(0);\n".to_owned()
    } else {
        format!("let mut tags = encode::Tags::default();\n{tags} tags.finish(out);\n")
    };
    match flexible {
        Test::Always => out.push_str(&tags),
        Test::Never => {}
        Test::Sometimes(_) => {
            let _ = writeln!(out, "if flexible {{ {tags} }}");
        }
    }
    out.push_str("Ok(())");
    Ok(out)
}

pub(super) fn emit_min_size(fields: &[FieldCx<'_>], flexible: &Test) -> String {
    let mut fixed = 0;
    let mut terms = Vec::new();
    for f in fields.iter().filter(|f| f.field.tag.is_none()) {
        let size = if f.is_nullable() && matches!(f.field.kind, Type::Struct(_)) {
            Size::Fixed(1)
        } else {
            f.min_size(&f.field.kind)
        };
        match (f.present(), size) {
            (Test::Sometimes(test), Size::Fixed(n)) => {
                terms.push(format!("if {test} {{ {n} }} else {{ 0 }}"));
            }
            (Test::Sometimes(test), Size::Varies(e)) => {
                terms.push(format!("if {test} {{ {e} }} else {{ 0 }}"));
            }
            (_, Size::Fixed(n)) => fixed += n,
            (_, Size::Varies(e)) => terms.push(e),
        }
    }
    match flexible {
        Test::Always => fixed += 1,
        Test::Never => {}
        Test::Sometimes(_) => terms.push("usize::from(flexible)".into()),
    }
    if terms.is_empty() {
        return fixed.to_string();
    }
    let mut out = format!("let mut size = {fixed};\n");
    for term in terms {
        let _ = writeln!(out, "size += {term};");
    }
    out.push_str("size");
    out
}
