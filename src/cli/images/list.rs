//! The list of all images: those that were built, by tenant, and the bases that are held for all.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{Output, existing_store};
use crate::cli::{print, shown};
use crate::config::Config;
use crate::image::{self, Image};
use crate::names::{Digest, ImageName, Tenant, labels};
use crate::registry::{self, HeldImage};

/// One image, with all that is known; absent is what is not.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: ImageName,
    /// None for a base: it belongs to nobody.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<Tenant>,
    id: Digest,
    /// Bytes of it in the store.
    size: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    package_hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fabric: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base: Option<ImageName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    base_digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    builder: Option<ImageName>,
    #[serde(skip_serializing_if = "Option::is_none")]
    builder_digest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    manifest: Option<Digest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pushed: Option<ImageName>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

impl Row {
    fn built(tenant: Tenant, image: Image, created: i64) -> Self {
        Self {
            package_hash: image.name.package_hash().map(str::to_owned),
            fabric: image.labels.get(labels::FABRIC_VERSION).cloned(),
            tenant: Some(tenant),
            id: image.id,
            size: image.layer.blob.size,
            created: Timestamp::from_second(created).ok(),
            base: Some(image.base.name),
            base_digest: image.base.digest,
            builder: image.builder.as_ref().map(|builder| builder.name.clone()),
            builder_digest: image.builder.map(|builder| builder.digest),
            manifest: image.manifest.map(|manifest| manifest.digest),
            pushed: image.pushed,
            labels: image.labels,
            name: image.name,
        }
    }

    fn held(name: ImageName, image: &HeldImage) -> Self {
        Self {
            id: image.id,
            size: image.size(),
            manifest: Some(image.manifest.digest),
            name,
            tenant: None,
            created: None,
            package_hash: None,
            fabric: None,
            base: None,
            base_digest: None,
            builder: None,
            builder_digest: None,
            pushed: None,
            labels: BTreeMap::new(),
        }
    }
}

/// Prints all images.
pub(super) async fn run(config: &Config, output: Output) -> anyhow::Result<()> {
    let store = existing_store(config).await?;
    let image::Catalogue { images, unreadable } = image::catalogue(&store).await?;
    let built = images.into_iter();
    let mut rows: Vec<_> = built
        .map(|(tenant, image, created)| Row::built(tenant, image, created))
        .collect();
    let held = registry::list_held(&store).await?;
    rows.extend(
        held.into_iter()
            .map(|(name, image)| Row::held(name, &image)),
    );
    print(&match output {
        Output::Json => format!("{:#}\n", serde_json::to_value(&rows)?),
        Output::Table => table(&HEADER[..5], &rows),
        Output::Wide => table(&HEADER, &rows),
    });
    if unreadable.is_empty() {
        return Ok(());
    }
    let told = unreadable.iter().map(|(place, reason)| {
        format!("the record {place} cannot be read: {reason}; `peitho images verify` sees to it")
    });
    anyhow::bail!("{}", told.collect::<Vec<_>>().join("\n"))
}

const HEADER: [&str; 11] = [
    "NAME",
    "TENANT",
    "ID",
    "SIZE",
    "CREATED",
    "PACKAGE",
    "FABRIC",
    "BASE",
    "BASE DIGEST",
    "BUILDER",
    "BUILDER DIGEST",
];

fn table(header: &[&str], rows: &[Row]) -> String {
    let mut cells: Vec<Vec<String>> = vec![header.iter().map(|it| (*it).to_owned()).collect()];
    cells.extend(rows.iter().map(|row| row.cells(header.len())));
    let width = |column: usize| cells.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let padded = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}   "));
        format!("{}\n", padded.collect::<String>().trim_end())
    };
    cells.iter().map(line).collect()
}

impl Row {
    fn cells(&self, columns: usize) -> Vec<String> {
        fn text<T: ToString>(value: Option<&T>) -> String {
            value.map_or("-".to_owned(), T::to_string)
        }
        // As Docker shows ids; JSON has them whole.
        let short = |digest: &Digest| digest.hex()[..12].to_owned();
        let mut cells = vec![
            self.name.to_string(),
            text(self.tenant.as_ref()),
            short(&self.id),
            shown(self.size),
            self.created.map_or("-".to_owned(), |at| at.to_string()),
            self.package_hash
                .as_ref()
                .map_or("-".to_owned(), |hash| hash[..12].to_owned()),
            text(self.fabric.as_ref()),
            text(self.base.as_ref()),
            text(self.base_digest.as_ref().map(short).as_ref()),
            text(self.builder.as_ref()),
            text(self.builder_digest.as_ref().map(short).as_ref()),
        ];
        cells.truncate(columns);
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_spec::ImageConfig;
    use crate::store::Blob;

    fn held(name: &str, size: u64) -> Row {
        let blob = Blob {
            digest: Digest::of(b"x"),
            size,
        };
        let image = HeldImage {
            id: Digest::of(b"id"),
            manifest: blob,
            config: Blob { size: 0, ..blob },
            start: ImageConfig::default(),
            layers: Vec::new(),
        };
        Row::held(name.parse().unwrap(), &image)
    }

    #[test]
    fn the_table_lines_up() {
        let rows = [
            held("hyperledger/fabric-ccenv:2.5", 177_290_000),
            held("r.example.com/a", 99_999),
        ];
        let id = &Digest::of(b"id").hex()[..12];
        let expected = format!(
            "NAME                           TENANT   ID             SIZE       CREATED\n\
             hyperledger/fabric-ccenv:2.5   -        {id}   177.2 MB   -\n\
             r.example.com/a:latest         -        {id}   99.9 kB    -\n"
        );
        assert_eq!(table(&HEADER[..5], &rows), expected);
        assert!(
            table(&HEADER, &rows)
                .lines()
                .all(|line| line.split("   ").count() >= 11)
        );
    }
}
