//! An image of the program alone, as an archive in OCI's layout (image-spec 1.1), for both architectures. `docker load`
//! before version 25 reads `manifest.json` instead, which names the same files.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use xtask::programs;

use super::{PACKAGE, Source, VERSION, archive, binaries::Binary};

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Writes `tcptrace-ebpf-VERSION.oci.tar`, which `podman load`, `docker load` and `ctr image import` read.
pub(super) fn write(source: &Source, built: &[Binary], to: &Path) -> Result<()> {
    let work = source.root.join("target/dist-image");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| work.display().to_string())?;
    }
    let layout = Layout(work.join("oci"));
    fs::create_dir_all(layout.0.join("blobs/sha256")).context("blobs")?;
    let created = programs::stdout_of(
        Command::new("date").args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", "--date"]).arg(format!("@{}", source.time)),
    )?;
    let images =
        built.iter().map(|binary| image(source, binary, &work, &layout, created.trim())).collect::<Result<Vec<_>>>()?;
    let (manifests, of_docker): (Vec<_>, Vec<_>) = images.into_iter().unzip();
    // One image with two architectures: podman takes no archive of two images.
    let mut named = layout.document(&work, "whole", INDEX, &index(&json!(manifests)))?;
    named["annotations"] = json!({ "org.opencontainers.image.ref.name": format!("{PACKAGE}:{VERSION}") });
    let top = [
        ("index.json", index(&json!([named]))),
        ("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })),
        ("manifest.json", json!(of_docker)),
    ];
    for (name, value) in top {
        fs::write(layout.0.join(name), value.to_string()).context(name)?;
    }
    archive::tar(source, &layout.0, ".", &to.join(format!("{PACKAGE}-{VERSION}.oci.tar")))
}

fn index(manifests: &Value) -> Value {
    json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests })
}

/// Writes the image of one architecture, and returns its rows of the index and of docker's manifest.
fn image(source: &Source, binary: &Binary, work: &Path, layout: &Layout, created: &str) -> Result<(Value, Value)> {
    let arch = binary.arch.debian();
    let tree = work.join(arch);
    let licence = |name: &str| (source.root.join(name), format!("usr/share/doc/{PACKAGE}/{name}"), 0o644);
    archive::layout(
        &tree,
        &[
            (binary.program.clone(), "usr/bin/tcptrace".to_owned(), 0o755),
            licence("LICENSE-APACHE"),
            licence("LICENSE-MIT"),
        ],
    )?;
    let plain = work.join(format!("{arch}.tar"));
    archive::tar(source, &tree, ".", &plain)?;
    programs::succeed(Command::new("gzip").args(["-9n", "--keep"]).arg(&plain))?;
    let packed = plain.with_extension("tar.gz");
    let config = json!({
        "created": created, "architecture": arch, "os": "linux",
        "config": {
            "Entrypoint": ["/usr/bin/tcptrace"], "Env": ["PATH=/usr/bin"],
            "Labels": {
                "org.opencontainers.image.title": PACKAGE, "org.opencontainers.image.version": VERSION,
                "org.opencontainers.image.revision": source.commit,
                "org.opencontainers.image.licenses": "MIT OR Apache-2.0",
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(&plain)?)] },
        "history": [{ "created": created, "created_by": "cargo xtask dist" }],
    });
    let config = layout.document(work, "config", "application/vnd.oci.image.config.v1+json", &config)?;
    let layer = layout.add(&packed, "application/vnd.oci.image.layer.v1.tar+gzip")?;
    let of_docker = json!({
        "Config": Layout::path(&config), "RepoTags": [format!("{PACKAGE}:{VERSION}-{arch}")],
        "Layers": [Layout::path(&layer)],
    });
    let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer] });
    let mut row = layout.document(work, "manifest", MANIFEST, &manifest)?;
    row["platform"] = json!({ "architecture": arch, "os": "linux" });
    Ok((row, of_docker))
}

/// A folder in OCI's layout.
struct Layout(PathBuf);

impl Layout {
    /// Adds a document, and returns its descriptor.
    fn document(&self, work: &Path, name: &str, media: &str, value: &Value) -> Result<Value> {
        let path = work.join(name);
        fs::write(&path, value.to_string()).with_context(|| path.display().to_string())?;
        self.add(&path, media)
    }

    /// Where the file of a descriptor is.
    fn path(descriptor: &Value) -> String {
        format!("blobs/{}", descriptor["digest"].as_str().unwrap_or_default().replace(':', "/"))
    }

    /// Adds a blob, and returns its descriptor.
    fn add(&self, file: &Path, media: &str) -> Result<Value> {
        let sum = sha256(file)?;
        let size =
            fs::copy(file, self.0.join("blobs/sha256").join(&sum)).with_context(|| file.display().to_string())?;
        Ok(json!({ "mediaType": media, "digest": format!("sha256:{sum}"), "size": size }))
    }
}

fn sha256(file: &Path) -> Result<String> {
    let line = programs::stdout_of(Command::new("sha256sum").arg(file))?;
    line.split(' ').next().map(str::to_owned).context("`sha256sum` printed nothing")
}
