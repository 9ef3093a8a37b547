//! One field: its Rust type and name, its default, and how it is read and written.

use std::fmt::Write as _;

use super::super::schema::{Field, Struct, Type, Versions};
use super::super::snake_case;
use super::{Context, Test};

pub(super) enum Size {
    Fixed(usize),
    Varies(String),
}

pub(super) struct Default {
    /// The expression of the default.
    pub(super) value: String,
    /// Whether `Default::default()` of the type gives the same.
    pub(super) is_rust_default: bool,
    /// An expression: is the field of `self` different from it?
    pub(super) differs: String,
}

pub(crate) struct FieldCx<'a> {
    pub(super) cx: &'a Context<'a>,
    pub(super) owner: &'a Struct,
    pub(crate) field: &'a Field,
    pub(super) valid: Versions,
}

impl FieldCx<'_> {
    pub(super) fn label(&self) -> String {
        format!("{}.{}", self.owner.name, self.field.name)
    }

    pub(crate) fn rust_name(&self) -> String {
        snake_case(&self.field.name)
    }

    /// In which of the struct's versions the field exists.
    pub(crate) fn present(&self) -> Test {
        Test::of(self.field.versions, self.valid)
    }

    pub(crate) fn present_versions(&self) -> Versions {
        self.field.versions.intersect(self.valid)
    }

    pub(crate) fn is_nullable(&self) -> bool {
        !self.field.nullable.intersect(self.present_versions()).is_none()
    }

    pub(super) fn is_payload(&self) -> bool {
        matches!(self.field.kind, Type::Bytes | Type::Records)
    }

    /// Whether lengths of this field are compact.
    pub(super) fn flexible(&self) -> String {
        let own = self.field.flexible.unwrap_or(self.cx.message.flexible);
        if self.field.tag.is_some() {
            return "true".into();
        }
        Test::of(own, self.valid).expression("flexible")
    }

    pub(super) fn doc(&self) -> String {
        let f = self.field;
        let mut doc =
            format!("`{}`: {}, versions {}", f.name, f.kind, f.versions).replace("[]", "array of ");
        if self.is_nullable() {
            let _ = write!(doc, ", nullable in {}", f.nullable);
        }
        if let Some((tag, versions)) = &f.tag {
            let _ = write!(doc, ", tag {tag} in {versions}");
        }
        if let Some(default) = &f.default {
            let _ = write!(doc, ", default {default}");
        }
        if f.ignorable {
            doc.push_str(", left out silently where the version lacks it");
        }
        doc.push('.');
        doc
    }

    pub(super) fn rust_type(&self) -> Result<String, String> {
        let bare = self.bare_type(&self.field.kind)?;
        Ok(if self.is_nullable() { format!("Option<{bare}>") } else { bare })
    }

    pub(crate) fn bare_type(&self, kind: &Type) -> Result<String, String> {
        Ok(match kind {
            Type::Fixed(name) => match name.as_str() {
                "bool" => "bool".into(),
                "uuid" => "Uuid".into(),
                "float64" => "f64".into(),
                int => int.replace("uint", "u").replace("int", "i"),
            },
            Type::String => "String".into(),
            Type::Bytes | Type::Records => "Bytes".into(),
            Type::Struct(name) => self
                .cx
                .rust_names
                .get(name.as_str())
                .cloned()
                .ok_or_else(|| format!("{}: no struct {name}", self.label()))?,
            Type::Array(element) => format!("Vec<{}>", self.bare_type(element)?),
        })
    }

    /// A nullable string, bytes or struct is null unless its table says otherwise; an array is
    /// empty, since null often means "all".
    pub(super) fn default(&self) -> Result<Default, String> {
        let me = format!("self.{}", self.rust_name());
        let given = self.field.default.as_deref();
        if self.is_nullable() {
            let is_array = matches!(self.field.kind, Type::Array(_));
            return match given {
                None if is_array => Ok(Default {
                    value: "Some(Vec::new())".into(),
                    is_rust_default: false,
                    differs: format!("{me}.as_ref().is_none_or(|v| !v.is_empty())"),
                }),
                None | Some("null") => Ok(Default {
                    value: "None".into(),
                    is_rust_default: true,
                    differs: format!("{me}.is_some()"),
                }),
                Some(other) => Err(format!("{}: nullable with default {other}", self.label())),
            };
        }
        let given = given.filter(|g| *g != "null");
        let plain = |value: &str, differs: String| Default {
            value: value.to_owned(),
            is_rust_default: true,
            differs,
        };
        Ok(match (&self.field.kind, given) {
            (Type::Fixed(name), _) => self.fixed_default(name, given, &me)?,
            (Type::String, None) => plain("String::new()", format!("!{me}.is_empty()")),
            (Type::Bytes | Type::Records, None) => {
                plain("Bytes::new()", format!("!{me}.is_empty()"))
            }
            (Type::Array(_), None) => plain("Vec::new()", format!("!{me}.is_empty()")),
            (Type::Struct(_), None) => {
                let value = format!("{}::default()", self.rust_type()?);
                let differs = format!("{me} != {value}");
                plain(&value, differs)
            }
            (_, Some(other)) => return Err(format!("{}: default {other}", self.label())),
        })
    }

    pub(super) fn fixed_default(
        &self,
        name: &str,
        given: Option<&str>,
        me: &str,
    ) -> Result<Default, String> {
        match (name, given) {
            ("bool", Some("true")) => Ok(Default {
                value: "true".into(),
                is_rust_default: false,
                differs: format!("!{me}"),
            }),
            ("bool", _) => {
                Ok(Default { value: "false".into(), is_rust_default: true, differs: me.to_owned() })
            }
            ("uuid", None) => Ok(Default {
                value: "Uuid::ZERO".into(),
                is_rust_default: true,
                differs: format!("{me} != Uuid::ZERO"),
            }),
            ("float64", None) => Ok(Default {
                value: "0.0".into(),
                is_rust_default: true,
                differs: format!("{me} != 0.0"),
            }),
            (_, given) => {
                let value = self.integer(given.unwrap_or("0"))?;
                Ok(Default {
                    is_rust_default: value == "0",
                    differs: format!("{me} != {value}"),
                    value,
                })
            }
        }
    }

    pub(super) fn integer(&self, text: &str) -> Result<String, String> {
        let parsed = match text.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16),
            None => text.parse::<i64>(),
        };
        let value = parsed.map_err(|_| format!("{}: default {text}", self.label()))?;
        Ok(match value {
            i64::MAX => "i64::MAX".into(),
            n if n == i64::from(i32::MAX) => "i32::MAX".into(),
            n if n == i64::from(i32::MIN) => "i32::MIN".into(),
            n => n.to_string(),
        })
    }

    pub(super) fn read(&self) -> Result<String, String> {
        let (label, flexible) = (self.label(), self.flexible());
        if !self.is_nullable() {
            return Ok(format!("{}?", self.read_bare(&self.field.kind)?));
        }
        let value = match &self.field.kind {
            Type::String => format!("r.nullable_string(\"{label}\", {flexible})?"),
            Type::Bytes | Type::Records => format!("r.nullable_bytes(\"{label}\", {flexible})?"),
            Type::Array(element) => format!(
                "r.nullable_array(\"{label}\", {flexible}, {}, |r| {})?",
                self.min_size_expression(element),
                self.read_bare(element)?
            ),
            Type::Struct(name) => format!(
                "if r.struct_marker(\"{label}\")? {{ Some({}::read(r, version)?) }} else {{ None }}",
                self.cx.rust_names[name.as_str()]
            ),
            Type::Fixed(_) => return Err(format!("{label}: can't be null")),
        };
        Ok(match Test::of(self.field.nullable, self.present_versions()) {
            Test::Sometimes(test) => {
                format!("{{ let value = {value}; r.nullable_if(\"{label}\", {test}, value)? }}")
            }
            _ => value,
        })
    }

    pub(super) fn read_bare(&self, kind: &Type) -> Result<String, String> {
        let (label, flexible) = (self.label(), self.flexible());
        Ok(match kind {
            Type::Fixed(name) => {
                let method = match name.as_str() {
                    "bool" | "uuid" => name.clone(),
                    _ => self.bare_type(kind)?,
                };
                format!("r.{method}(\"{label}\")")
            }
            Type::String => format!("r.string(\"{label}\", {flexible})"),
            Type::Bytes | Type::Records => format!("r.bytes(\"{label}\", {flexible})"),
            Type::Struct(name) => {
                format!("{}::read(r, version)", self.cx.rust_names[name.as_str()])
            }
            Type::Array(element) => format!(
                "r.array(\"{label}\", {flexible}, {}, |r| {})",
                self.min_size_expression(element),
                self.read_bare(element)?
            ),
        })
    }

    pub(super) fn min_size_expression(&self, kind: &Type) -> String {
        match self.min_size(kind) {
            Size::Fixed(n) => n.to_string(),
            Size::Varies(expression) => expression,
        }
    }

    pub(super) fn min_size(&self, kind: &Type) -> Size {
        let prefix = |long: usize| match self.flexible().as_str() {
            "true" => Size::Fixed(1),
            "false" => Size::Fixed(long),
            _ => Size::Varies(format!("if flexible {{ 1 }} else {{ {long} }}")),
        };
        match kind {
            Type::Fixed(name) => Size::Fixed(match name.as_str() {
                "bool" | "int8" => 1,
                "int16" | "uint16" => 2,
                "int32" | "uint32" => 4,
                "uuid" => 16,
                _ => 8,
            }),
            Type::String => prefix(2),
            Type::Bytes | Type::Records | Type::Array(_) => prefix(4),
            Type::Struct(name) => {
                Size::Varies(format!("{}::min_size(version)", self.cx.rust_names[name.as_str()]))
            }
        }
    }

    pub(super) fn write(&self) -> Result<String, String> {
        let place = format!("self.{}", self.rust_name());
        if !self.is_nullable() {
            return self.write_bare(&self.field.kind, &place, &format!("&{place}"));
        }
        let (label, flexible) = (self.label(), self.flexible());
        let mut some = self.write_bare(&self.field.kind, "value", "value")?;
        let null = match &self.field.kind {
            Type::String => format!("encode::put_null_string(out, {flexible})"),
            Type::Struct(_) => {
                some = format!("out.push(1);\n{some}");
                "out.push(0xff)".into()
            }
            _ => format!("encode::put_null(out, {flexible})"),
        };
        let none = match Test::of(self.field.nullable, self.present_versions()) {
            Test::Sometimes(test) => format!(
                "None if {test} => {null},
                None => return Err(encode::null_not_allowed(\"{label}\", version)),"
            ),
            _ => format!("None => {null},"),
        };
        Ok(format!("match &{place} {{ Some(value) => {{ {some} }} {none} }}\n"))
    }

    pub(super) fn write_bare(
        &self,
        kind: &Type,
        place: &str,
        reference: &str,
    ) -> Result<String, String> {
        let (label, flexible) = (self.label(), self.flexible());
        Ok(match kind {
            Type::Fixed(name) => match name.as_str() {
                "bool" if place.starts_with("self") => format!("out.push(u8::from({place}));\n"),
                "bool" => format!("out.push(u8::from(*{place}));\n"),
                "uuid" => format!("out.extend_from_slice(&{place}.0);\n"),
                _ => format!("out.extend_from_slice(&{place}.to_be_bytes());\n"),
            },
            Type::String => {
                format!("encode::put_string(out, \"{label}\", {flexible}, {reference})?;\n")
            }
            Type::Bytes | Type::Records => {
                format!("encode::put_bytes(out, \"{label}\", {flexible}, {reference})?;\n")
            }
            Type::Struct(_) => format!("{place}.write(out, version)?;\n"),
            Type::Array(element) => format!(
                "encode::put_count(out, \"{label}\", {flexible}, {place}.len())?;
                for item in {reference} {{ {} }}\n",
                self.write_bare(element, "item", "item")?
            ),
        })
    }
}
