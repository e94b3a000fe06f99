//! The page of all keys for people, `docs/config.md`, from the schema.

use std::fmt::Write as _;

use serde_json::Value;

use super::Config;
use super::keys::variable;
use super::legacy;

const HEAD: &str = "\
# Configuration

This page is generated from the code: `make docs` renews it, and a test fails when it is stale.

Peitho reads `peitho.yml`: the file named by `--config` or `PEITHO_CONFIG`, else `./peitho.yml`, else
`/etc/peitho/peitho.yml`; without any of them it uses the defaults. Later sources win:

1. the defaults below,
2. the file,
3. environment variables `PEITHO_SECTION__KEY` (two underscores),
4. flags `--set section.key=value`.

In a variable or a flag, text stands for itself; lists and mappings are written as YAML in one line, for example
`PEITHO_COMPILE__ENV='{GOPROXY: \"off\"}'`, and replace the whole list or mapping. A key within another one is set alone by both
their names: `PEITHO_LISTEN__TLS__KEY_FILE`, `--set listen.tls.keyFile=…`. Keys that do not exist are refused with the nearest one that does. Variables that Kubernetes makes for a Service called `peitho`, such as
`PEITHO_SERVICE_HOST`, have no double underscore and are left alone.

`peitho config check` says whether a file is good, `peitho config show` prints what is in force (without values that
may be secrets), `peitho config schema` prints the JSON schema of the file for editors.
";

const FROM_THE_ORIGINAL: &str = "
## From the original

The `peitho.yml` of the Go program of the same name starts this server unchanged. Each of its keys that is used is told once
at start, with its name today; `peitho config check` tells them too, and `peitho config show` prints the file in today's
keys. Old and new keys may stand in one file, but a setting only once. The variables of that program, such as
`PEITHO_K8S_NAMESPACE`, are refused with their name today. Two things of the deployment change with the
program: chaincode pods fetch from port 8081, which the Service must offer, and images are kept in `store.directory`,
which needs a volume.

| original | here |
|---|---|";

/// The page as Markdown.
pub fn reference() -> String {
    let schema = Config::schema();
    let definitions = &schema["$defs"];
    let mut page = HEAD.to_owned();
    for (section, property) in entries(&schema["properties"]) {
        let definition = resolved(property, definitions);
        let about = text(property, definition);
        line(&mut page, &format!("\n## `{section}`\n\n{about}\n"));
        line(
            &mut page,
            "| key | type | default | meaning | variable |\n|---|---|---|---|---|",
        );
        let defaults = &property["default"];
        for (key, property) in entries(&definition["properties"]) {
            let default = shown(&defaults[key]);
            let (kind, about) = (kind(property, definitions), text(property, &Value::Null));
            let variable = variable(&[section, key]);
            line(
                &mut page,
                &format!("| `{key}` | {kind} | {default} | {about} | `{variable}` |"),
            );
        }
        for (key, property) in entries(&definition["properties"]) {
            details(
                &mut page,
                &format!("{section}.{key}"),
                property,
                definitions,
            );
        }
    }
    line(&mut page, FROM_THE_ORIGINAL);
    for (old, became) in legacy::table() {
        line(&mut page, &format!("| `{old}` | {became} |"));
    }
    page
}

/// The choices of an enumeration, or the keys of a list's items and of sections in these, below the section's table.
fn details(page: &mut String, path: &str, property: &Value, definitions: &Value) {
    let choices = choices(property, definitions);
    if !choices.is_empty() {
        line(page, &format!("\n`{path}` is one of:\n"));
    }
    for choice in choices {
        let (name, about) = (shown(&choice["const"]), text(choice, &Value::Null));
        line(page, &format!("- {name}: {about}"));
    }
    let items = resolved(&property["items"], definitions);
    let (item, head, below) = match items["properties"].is_object() {
        true => (items, "Each item of", format!("{path}[]")),
        false => (resolved(property, definitions), "Keys of", path.to_owned()),
    };
    if item["properties"].is_object() {
        line(page, &format!("\n{head} `{path}`:\n"));
        line(
            page,
            "| key | type | default | meaning |\n|---|---|---|---|",
        );
    }
    let required = item["required"].as_array().cloned().unwrap_or_default();
    for (key, property) in entries(&item["properties"]) {
        let (kind, about) = (kind(property, definitions), text(property, &Value::Null));
        let default = match required.iter().any(|name| name == key) {
            true => "required".to_owned(),
            false => shown(&property["default"]),
        };
        line(page, &format!("| `{key}` | {kind} | {default} | {about} |"));
    }
    // Lists and choices there are those of other sections.
    let sections = entries(&item["properties"])
        .filter(|(_, property)| resolved(property, definitions)["properties"].is_object());
    for (key, property) in sections {
        details(page, &format!("{below}.{key}"), property, definitions);
    }
}

fn line(page: &mut String, text: &str) {
    writeln!(page, "{text}").expect("writing to a string cannot fail");
}

fn entries(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value))
}

fn resolved<'a>(schema: &'a Value, definitions: &'a Value) -> &'a Value {
    // An optional one.
    let schema = schema["anyOf"].get(0).unwrap_or(schema);
    match schema["$ref"].as_str().and_then(|r| r.rsplit('/').next()) {
        Some(name) => &definitions[name],
        None => schema,
    }
}

fn choices<'a>(property: &'a Value, definitions: &'a Value) -> &'a [Value] {
    let all = &resolved(property, definitions)["oneOf"];
    all.as_array().map_or(&[], Vec::as_slice)
}

/// The doc comment, as one line of a table.
fn text(property: &Value, definition: &Value) -> String {
    let about = property["description"].as_str();
    let about = about
        .or(definition["description"].as_str())
        .unwrap_or_default();
    let about = about.split_whitespace().collect::<Vec<_>>().join(" ");
    without_sources(&about).replace('|', "\\|")
}

/// References to the design are for readers of the code.
fn without_sources(about: &str) -> String {
    match about.split_once(" (design ") {
        Some((front, rest)) => match rest.split_once(')') {
            Some((_, back)) => format!("{front}{back}"),
            None => about.to_owned(),
        },
        None => about.to_owned(),
    }
}

fn kind(property: &Value, definitions: &Value) -> String {
    let definition = resolved(property, definitions);
    if !choices(property, definitions).is_empty() {
        let names: Vec<String> = choices(property, definitions)
            .iter()
            .map(|choice| shown(&choice["const"]))
            .collect();
        return names.join(" or ");
    }
    let name = match &definition["type"] {
        Value::Array(kinds) if kinds[..] == ["integer", "string"] => Some("number or text"),
        Value::Array(kinds) => kinds.first().and_then(Value::as_str),
        kind => kind.as_str(),
    };
    match name.unwrap_or("object") {
        "integer" => "number".to_owned(),
        "array" => match resolved(&definition["items"], definitions)["properties"] {
            Value::Object(_) => "list of mappings".to_owned(),
            _ => "list of text".to_owned(),
        },
        "object" => "mapping".to_owned(),
        "string" => "text".to_owned(),
        other => other.to_owned(),
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::String(text) if text.is_empty() => "empty".to_owned(),
        Value::String(text) => format!("`{text}`"),
        Value::Object(map) => {
            let pairs: Vec<String> = map
                .iter()
                .filter_map(|(key, value)| Some((key, value.as_str()?)))
                .filter(|(_, text)| !text.is_empty())
                .map(|(key, text)| format!("{key}: {text}"))
                .collect();
            format!("`{{{}}}`", pairs.join(", "))
        }
        other => format!("`{other}`"),
    }
}
