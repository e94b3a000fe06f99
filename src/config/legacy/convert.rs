//! The values that the original wrote otherwise. Each function takes what stood there and gives what stands for it now;
//! `legacy` calls them, and tells the user what they did. None repeats what it was given: that may hold a password.

use std::net::IpAddr;

use http::Uri;

use serde_saphyr::Spanned;

use super::{Converted, Unreadable};
use crate::config::document::{Content, Node};
use crate::config::{Clients, Listen, Reach};

type Result = std::result::Result<Converted, Unreadable>;

fn text(text: &str) -> Content {
    Content::Text(text.to_owned())
}

/// The word that stands there, in lower case.
fn word(node: &Node) -> Option<String> {
    match &node.content {
        Content::Text(word) => Some(word.trim().to_ascii_lowercase()),
        _ => None,
    }
}

/// What means the same as ever.
pub(super) fn nothing(_: &Node) -> Result {
    Ok(Converted::Unchanged)
}

/// What was left empty, as a registry without a login has it, is not there.
pub(super) fn unless_empty(node: &Node) -> Result {
    match &node.content {
        Content::Null => Ok(Converted::Unchanged),
        Content::Text(text) if text.is_empty() => Ok(Converted::Unchanged),
        content => Ok(Converted::To(content.clone(), String::new())),
    }
}

/// The words are the same, in any case then.
pub(super) fn image_mode(node: &Node) -> Result {
    match word(node).as_deref() {
        None if matches!(node.content, Content::Null) => Ok(Converted::Unchanged),
        Some(mode @ ("delivery" | "registry")) => Ok(Converted::To(text(mode), String::new())),
        _ => Err((node.place, "registry or delivery")),
    }
}

/// A server's address was a host, or what `docker login` took: `https://host:port/v1/`.
pub(super) fn registry_address(node: &Node) -> Result {
    let address = match &node.content {
        Content::Null => return Ok(Converted::Unchanged),
        Content::Text(address) if address.trim().is_empty() => return Ok(Converted::Unchanged),
        Content::Text(address) => address.trim(),
        _ => return Err((node.place, "host:port of the registry")),
    };
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let host = rest.split('/').next().unwrap_or_default();
    match address.split_once("://") {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("http") => {
            let told = ", with images.registry.scheme http unless that is set: user and password are sent without TLS";
            let implied = ("images.registry.scheme", text("http"));
            Ok(Converted::With(text(host), told.to_owned(), implied))
        }
        _ => Ok(Converted::To(text(host), String::new())),
    }
}

/// `http://peitho:8080/tar` is `https://peitho:8081`: delivery has a listener of its own, and always TLS.
pub(super) fn address(node: &Node) -> Result {
    let unreadable = || {
        let accepted = "the address of Peitho as pods reach it, for example http://peitho:8080/tar";
        (node.place, accepted)
    };
    let address = match &node.content {
        Content::Null => return Ok(Converted::Unchanged),
        // In the mode `registry` it was left so.
        Content::Text(address) if address.trim().is_empty() => return Ok(Converted::Unchanged),
        Content::Text(address) => address.trim(),
        _ => return Err(unreadable()),
    };
    let full = match address.contains("://") {
        true => address.to_owned(),
        false => format!("http://{address}"),
    };
    let uri: Uri = full.parse().map_err(|_| unreadable())?;
    let host = uri.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(unreadable)?;
    let port = Listen::default()
        .addresses(Reach::Network, Clients::Anyone)
        .delivery
        .port();
    let address = format!("https://{host}:{port}");
    let rest = format!(", with the value {address}; the Service needs that port too");
    Ok(Converted::To(Content::Text(address), rest))
}

/// `ip:host` each; names of one address come together, since Kubernetes merges aliases by address.
pub(super) fn host_aliases(node: &Node) -> Result {
    let items = match &node.content {
        Content::Null => return Ok(Converted::Unchanged),
        Content::List(items) => items.clone(),
        // The original took one text with commas, too.
        Content::Text(list) => {
            let items = list.split(',').filter(|item| !item.trim().is_empty());
            items.map(|item| node.with(text(item))).collect()
        }
        _ => return Err(no_alias(node)),
    };
    let mut aliases: Vec<(IpAddr, Vec<Node>)> = Vec::new();
    for item in &items {
        let (ip, host) = alias(item).ok_or_else(|| no_alias(item))?;
        let host = item.with(text(host));
        match aliases.iter_mut().find(|(other, _)| *other == ip) {
            Some((_, hosts)) => hosts.push(host),
            None => aliases.push((ip, vec![host])),
        }
    }
    let aliases = aliases.into_iter().map(|(ip, hosts)| {
        let place = hosts[0].clone();
        let key = |name: &str| Spanned::new(name.to_owned(), place.place, place.place);
        place.with(Content::Map(vec![
            (key("ip"), place.with(text(&ip.to_string()))),
            (key("hostnames"), place.with(Content::List(hosts))),
        ]))
    });
    let aliases = Content::List(aliases.collect());
    Ok(Converted::To(
        aliases,
        ", with items {ip, hostnames}".to_owned(),
    ))
}

fn no_alias(node: &Node) -> Unreadable {
    let accepted = "a list of ip:host, for example 10.0.0.7:peer0.org1.example.com";
    (node.place, accepted)
}

fn alias(item: &Node) -> Option<(IpAddr, &str)> {
    let Content::Text(line) = &item.content else {
        return None;
    };
    // From the end: an IPv6 address has colons, a name has none.
    let (ip, host) = line.trim().rsplit_once(':')?;
    let ip = ip.trim().trim_start_matches('[').trim_end_matches(']');
    let host = host.trim();
    (!host.is_empty()).then_some((ip.parse().ok()?, host))
}

/// The words of zap above `error`; the others are ours, or wrong as ours.
pub(super) fn level(node: &Node) -> Result {
    match word(node) {
        Some(word) if matches!(word.as_str(), "dpanic" | "panic" | "fatal") => {
            let rest = format!(": {word} is called error now");
            Ok(Converted::To(text("error"), rest))
        }
        _ => Ok(Converted::Unchanged),
    }
}

/// zap's word for lines for people.
pub(super) fn format(node: &Node) -> Result {
    match word(node).as_deref() {
        Some("console") => {
            let rest = ": console is called text now";
            Ok(Converted::To(text("text"), rest.to_owned()))
        }
        _ => Ok(Converted::Unchanged),
    }
}

/// Truth values, or the words for them.
pub(super) fn color(node: &Node) -> Result {
    let wanted = match &node.content {
        Content::Null => return Ok(Converted::Unchanged),
        Content::Bool(wanted) => Some(*wanted),
        _ => word(node).and_then(|word| word.parse().ok()),
    };
    let wanted = wanted.ok_or((node.place, "true or false"))?;
    let color = if wanted { "always" } else { "never" };
    Ok(Converted::To(
        text(color),
        format!(", with the value {color}"),
    ))
}
