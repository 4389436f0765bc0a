//! What is built into the program and is no Rust: the migrations, which cargo does not watch by
//! itself, and the files of Swagger UI, which come in an archive.

use std::{
    env,
    error::Error,
    fs,
    io::{self, Cursor},
    path::Path,
};

use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;
use zip::ZipArchive;

/// What of the archive is needed, below the one folder that it holds.
///
/// CAUTION: `src/http/swagger.rs` serves them by these names.
const SWAGGER_UI: [&str; 6] = [
    "LICENSE",
    "NOTICE",
    "dist/favicon-32x32.png",
    "dist/index.css",
    "dist/swagger-ui-bundle.js",
    "dist/swagger-ui.css",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=../migrations");
    println!("cargo::rerun-if-changed=build.rs");
    let folder = env::var_os("OUT_DIR").ok_or("cargo names no OUT_DIR")?;
    let mut archive = ZipArchive::new(Cursor::new(SWAGGER_UI_VENDORED))?;
    let root = archive
        .root_dir(|_| true)?
        .ok_or("Swagger UI is not in one folder")?;
    for name in SWAGGER_UI {
        let mut file = archive.by_path(root.join(name))?;
        let name = Path::new(name).file_name().unwrap_or_default();
        let mut target = fs::File::create(Path::new(&folder).join(name))?;
        io::copy(&mut file, &mut target)?;
    }
    Ok(())
}
