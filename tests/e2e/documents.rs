//! Documents in the shapes of well-known APIs: each loads, or is refused by the place of its fault. `cargo xtask documents`
//! has the gateway read thousands of real ones.

use std::{collections::BTreeSet, fs, path::PathBuf};

use gateway::{
    os::file::NamedFile,
    policy::validate::openapi::{Contract, DocumentReading},
    settings::validate::Formats,
};

#[test]
fn documents_in_known_shapes_load_or_are_refused_by_place() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/openapi-shapes");
    let mut left: BTreeSet<String> =
        fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    for (name, place) in [
        ("accounts-3.0.yaml", None),
        ("assistants-3.1.yaml", None),
        ("cluster-3.0.json", None),
        ("keyless-3.0.yaml", Some("#/paths/~1items/get/security/0")),
        ("mailbox-3.0.yaml", None),
        ("messages-3.0.yaml", None),
        ("payments-3.0.yaml", None),
        ("petstore-2.0.json", Some("#")),
        ("queues-3.0.yaml", None),
        ("records-3.0.yaml", None),
        ("repositories-3.1.yaml", None),
        ("slips-3.0.yaml", Some("#/paths/~1items/post/requestBody/content/application~1json/schema/requried")),
        ("split-3.0.yaml", Some("#/paths/~1items/post/requestBody/content/application~1json/schema/$ref")),
    ] {
        let path = folder.join(name);
        let document = NamedFile { bytes: fs::read(&path).unwrap().into(), path };
        let read = Contract::new(&document, &[], Formats::Annotate, &DocumentReading::default());
        let told = read.err().map(|fault| fault.place);
        assert_eq!(told, place.map(|place| format!("{name}{place}")), "{name}");
        assert!(left.remove(name), "{name} stands twice");
    }
    assert!(left.is_empty(), "nobody reads {left:?}");
}
