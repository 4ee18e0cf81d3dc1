//! What dockerd keeps about a container: `config.v2.json` in its data folder (`container/container.go` of moby,
//! `toDisk`; since docker 1.10).

use serde::Deserialize;

use super::{
    facts::{Facts, Labels},
    root::Root,
};
use crate::model::place::{Place, PlaceSource, Runtime};

/// Data folders: dockerd's default, the snap's.
const DATA: [&str; 2] = ["/var/lib/docker", "/var/snap/docker/common/var-lib-docker"];
/// dockerd's own settings, which may name another data folder.
const SETTINGS: &str = "/etc/docker/daemon.json";
/// Largest file that is read.
const MAX_BYTES: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(rename = "ID")]
    id: String,
    name: Option<String>,
    config: Option<Config>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Config {
    image: Option<String>,
    labels: Option<Labels>,
}

#[derive(Deserialize)]
struct Settings {
    #[serde(rename = "data-root")]
    data_root: Option<String>,
}

/// Adds what dockerd says about the container `id`. `home` is that of the user whose dockerd it is (rootless mode).
pub(super) fn add(root: &Root, id: &str, home: Option<&str>, place: &mut Place) {
    let settings = root.read(SETTINGS, MAX_BYTES).ok();
    let settings = settings.and_then(|bytes| serde_json::from_slice::<Settings>(&bytes).ok());
    let configured = settings.and_then(|settings| settings.data_root);
    let of_user = home.map(|home| format!("{home}/.local/share/docker"));
    let folders = of_user.iter().chain(&configured).map(String::as_str).chain(DATA);
    let read = |data: &str| {
        let bytes = root.read(&format!("{data}/containers/{id}/config.v2.json"), MAX_BYTES).ok()?;
        serde_json::from_slice::<State>(&bytes).ok().filter(|state| state.id == id)
    };
    let Some(state) = folders.into_iter().find_map(read) else { return };
    let config = state.config.as_ref();
    let labels = config.and_then(|config| config.labels.as_ref());
    let mut facts = Facts::new(place, PlaceSource::DockerState);
    facts.runtime(Runtime::Docker);
    facts.image(config.and_then(|config| config.image.as_deref()));
    if let Some(labels) = labels {
        // Written by dockershim and cri-dockerd.
        let is_sandbox = labels.get("io.kubernetes.docker.type").is_some_and(|kind| kind == "podsandbox");
        facts.kubelet_labels(labels, is_sandbox);
    }
    facts.name(state.name.as_deref().map(|name| name.trim_start_matches('/')));
}
