//! Where a chain is, whose keys it is verified by, and how far a long one is read: what all commands about it ask.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    cli::{context::Context, exit::Exit, progress::Progress, table::clean},
    guard::{
        audit::{PublicKeys, Unjudged},
        state_files,
    },
};

/// The folder of a chain: the one that is named, or the configuration's. How the command ends if there is none.
pub(super) fn folder(named: Option<PathBuf>, context: &Context) -> Result<PathBuf, Exit> {
    let state_dir = match named {
        Some(state_dir) => state_dir,
        None => match context.locations() {
            Ok(locations) => locations.state_dir,
            Err(errors) => return Err(context.out.fail(&errors.to_string(), Exit::Usage)),
        },
    };
    // A folder that was mistyped is no chain that is broken.
    if let Err(error) = std::fs::read_dir(&state_dir) {
        if error.kind() == io::ErrorKind::PermissionDenied {
            let message = format!("{}: {error}: run as root, or as a user who may read it", state_dir.display());
            return Err(context.out.fail(&message, Exit::Denied));
        }
        let message = format!("{}: {error}: name the folder of a gateway", state_dir.display());
        return Err(context.out.fail(&message, Exit::Usage));
    }
    if !state_files::is_state(&state_dir) {
        let message = format!("{}: no gateway ever kept its state there", state_dir.display());
        return Err(context.out.fail(&message, Exit::Usage));
    }
    Ok(state_dir)
}

/// Keys from a file of their own.
pub(super) fn keys(path: Option<&Path>, context: &Context) -> Result<Option<PublicKeys>, Exit> {
    let Some(path) = path else { return Ok(None) };
    let told = |what: &str, exit| context.out.fail(&format!("{} {what}", path.display()), exit);
    let text = std::fs::read_to_string(path)
        .map_err(|error| told(&format!("cannot be read: {error}"), Exit::of_file(&error, Exit::Usage)))?;
    PublicKeys::parse(&text).map(Some).map_err(|wrong| told(&wrong, Exit::Usage))
}

/// Says why it cannot be told whether the chain is whole.
pub(super) fn untold(unjudged: &Unjudged, context: &Context) -> Exit {
    let exit = if unjudged.is_denied { Exit::Denied } else { Exit::Unknown };
    context.out.fail(&clean(&unjudged.reason), exit)
}

/// How a command ends that could not read a file.
pub(super) fn exit_of(error: &io::Error) -> Exit {
    Exit::of_file(error, Exit::Refused)
}

/// Tells how much of a long chain is read.
pub(super) fn progress(context: &Context) -> impl FnMut(u64, u64) {
    let mut progress: Option<Progress> = None;
    let quiet = context.out.json;
    move |done, total| {
        let progress = progress.get_or_insert_with(|| Progress::new(total >> 20, "MiB", quiet));
        if done >= total {
            progress.clear();
        } else {
            progress.tell(done >> 20);
        }
    }
}
