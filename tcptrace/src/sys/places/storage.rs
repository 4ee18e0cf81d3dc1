//! What podman and CRI-O keep about a container: its bundle, `userdata/config.json`, whose annotations CRI-O writes
//! (`internal/factory/container`), and the list of all containers, `containers.json` (`containers.go` of
//! containers/storage), where podman's names are.

use std::collections::HashMap;

use serde::Deserialize;

use super::{
    facts::{Facts, Labels},
    indexes::Indexes,
    root::Root,
};
use crate::model::place::{Place, PlaceSource, Runtime};

/// Storage folders: persistent, and for the running system.
const STORAGE: [&str; 2] = ["/var/lib/containers/storage", "/run/containers/storage"];
/// Storage drivers, the first part of a folder's name.
const DRIVERS: [&str; 4] = ["overlay", "vfs", "btrfs", "zfs"];
/// Lists of containers; those of `--rm` are in the second one since containers/storage 1.43.
const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];
/// Largest bundle that is read.
const MAX_BUNDLE: usize = 1 << 20;
/// Largest list that is read: enough for 10,000 containers of 1.6 KB.
const MAX_LIST: usize = 16 << 20;

#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    annotations: Labels,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    #[serde(default)]
    names: Vec<String>,
    metadata: Option<String>,
}

/// The metadata that podman and CRI-O add to an entry, itself JSON.
#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "image-name")]
    image: Option<String>,
}

/// A container in a list.
#[derive(Debug)]
pub(super) struct Listed {
    name: Option<Box<str>>,
    image: Option<Box<str>>,
}

/// Adds what podman or CRI-O says about the container `id`. `folder` is `…/DRIVER-containers`, if its monitor's process
/// showed it; `home` is that of the user who started it.
pub(super) fn add(
    root: &Root,
    id: &str,
    folder: Option<&str>,
    home: Option<&str>,
    indexes: &mut Indexes<Listed>,
    place: &mut Place,
) {
    let of_user = home.map(|home| format!("{home}/.local/share/containers/storage"));
    let storages = STORAGE.into_iter().chain(of_user.as_deref());
    let known = storages.flat_map(|storage| DRIVERS.map(|driver| format!("{storage}/{driver}-containers")));
    for folder in folder.map(str::to_owned).into_iter().chain(known) {
        add_bundle(root, &format!("{folder}/{id}"), place);
        for list in LISTS {
            if place.container_name().is_none() || place.image().is_none() {
                add_listed(root, &format!("{folder}/{list}"), id, indexes, place);
            }
        }
    }
}

fn add_bundle(root: &Root, folder: &str, place: &mut Place) {
    let bytes = root.read(&format!("{folder}/userdata/config.json"), MAX_BUNDLE).ok();
    let bundle = bytes.and_then(|bytes| serde_json::from_slice::<Bundle>(&bytes).ok());
    let Some(labels) = bundle.map(|bundle| bundle.annotations) else { return };
    let label = |key| labels.get(key).map(String::as_str);
    let mut facts = Facts::new(place, PlaceSource::ContainerBundle);
    match label("io.container.manager") {
        Some("cri-o") => {
            facts.runtime(Runtime::CriO);
            facts.kubelet_labels(&labels, label("io.kubernetes.cri-o.ContainerType") == Some("sandbox"));
            let images = ["Image", "ImageName"].map(|key| label_of_crio(&labels, key));
            facts.image(images.into_iter().flatten().find(|image| !image.is_empty()));
        }
        Some("libpod") => facts.runtime(Runtime::Podman),
        _ => {}
    }
}

fn label_of_crio<'a>(labels: &'a Labels, key: &str) -> Option<&'a str> {
    labels.get(&format!("io.kubernetes.cri-o.{key}")).map(String::as_str)
}

fn add_listed(root: &Root, path: &str, id: &str, indexes: &mut Indexes<Listed>, place: &mut Place) {
    let Some(listed) = indexes.get(root, path, id, || read(root, path)) else { return };
    let mut facts = Facts::new(place, PlaceSource::ContainerStorage);
    facts.name(listed.name.as_deref());
    facts.image(listed.image.as_deref());
}

fn read(root: &Root, path: &str) -> HashMap<Box<str>, Listed> {
    let bytes = root.read(path, MAX_LIST).ok();
    let entries = bytes.and_then(|bytes| serde_json::from_slice::<Vec<Entry>>(&bytes).ok()).unwrap_or_default();
    let listed = |entry: Entry| {
        let metadata = entry.metadata.and_then(|text| serde_json::from_str::<Metadata>(&text).ok());
        let image = metadata.and_then(|metadata| metadata.image).map(String::into_boxed_str);
        let name = entry.names.into_iter().next().map(String::into_boxed_str);
        (entry.id.into_boxed_str(), Listed { name, image })
    };
    entries.into_iter().map(listed).collect()
}
