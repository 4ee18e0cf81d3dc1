//! An image of the program alone, as an archive in OCI's layout (image-spec 1.1), for both architectures.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use xtask::programs;

use super::{PACKAGE, Source, VERSION, archive, binaries::Binary};

/// Writes `tcptrace-ebpf-VERSION.oci.tar.gz`, which `podman load`, `docker load` and `ctr image import` read.
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
    let manifests = built
        .iter()
        .map(|binary| manifest(source, binary, &work, &layout, created.trim()))
        .collect::<Result<Vec<_>>>()?;
    let index =
        json!({ "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": manifests });
    fs::write(layout.0.join("index.json"), index.to_string()).context("index.json")?;
    fs::write(layout.0.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())
        .context("oci-layout")?;
    archive::tar(source, &layout.0, ".", &to.join(format!("{PACKAGE}-{VERSION}.oci.tar.gz")))
}

/// Writes the image of one architecture, and returns its row of the index.
fn manifest(source: &Source, binary: &Binary, work: &Path, layout: &Layout, created: &str) -> Result<Value> {
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
    let packed = work.join(format!("{arch}.tar.gz"));
    archive::tar(source, &tree, ".", &packed)?;
    let plain = packed.with_extension("");
    programs::succeed(Command::new("gzip").args(["--decompress", "--keep"]).arg(&packed))?;
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
    let config_file = work.join(format!("{arch}.json"));
    fs::write(&config_file, config.to_string()).context("the image's configuration")?;
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": layout.add(&config_file, "application/vnd.oci.image.config.v1+json")?,
        "layers": [layout.add(&packed, "application/vnd.oci.image.layer.v1.tar+gzip")?],
    });
    let manifest_file = work.join(format!("{arch}.manifest"));
    fs::write(&manifest_file, manifest.to_string()).context("the image's manifest")?;
    let mut row = layout.add(&manifest_file, "application/vnd.oci.image.manifest.v1+json")?;
    row["platform"] = json!({ "architecture": arch, "os": "linux" });
    row["annotations"] = json!({ "org.opencontainers.image.ref.name": VERSION });
    Ok(row)
}

/// A folder in OCI's layout.
struct Layout(PathBuf);

impl Layout {
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
