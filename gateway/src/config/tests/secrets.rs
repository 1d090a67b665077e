//! What is secret is neither shown nor repeated in faults.

use super::*;

#[test]
fn nothing_secret_is_shown() {
    struct Secret;
    impl Files for Secret {
        fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
            let text = if path.ends_with("gateway.toml") { BASE } else { "hunter2" };
            Ok(text.as_bytes().into())
        }
    }
    let config = Config::load(Path::new("gateway.toml"), &Secret).unwrap();
    let shown = [config.effective().to_string(), format!("{config:?}")];
    assert!(shown.iter().all(|text| !text.contains("hunter2")), "{shown:?}");
}

/// Whoever pastes a secret where its file or a public key belongs does not find it in a log.
#[test]
fn a_secret_that_is_no_file_is_not_repeated() {
    struct NoFile;
    impl Files for NoFile {
        fn read(&self, path: &Path) -> io::Result<Arc<[u8]>> {
            const TEXT: &str = "\
[[feed]]
name = \"a\"
url = \"https://lists.example.com/a?k=hunter2\"
minisign = \"RWRTY0IyhunterAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA2hunter2\"
token_file = \"hunter2AAAAAAAAAAAAAAAAAAAAAAAA\"

[cluster.nodes]
edge-1 = \"hunter2AAAAAAAAAAAAAAAAAAAAAAAAAA\"

[crowdsec]
url = \"http://ada:hunter2@127.0.0.1:8080\"
password = \"hunter2\"
";
            let is_it = path.ends_with("gateway.toml");
            is_it.then(|| TEXT.as_bytes().into()).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }
    let errors = Config::load(Path::new("gateway.toml"), &NoFile).unwrap_err();
    let told = [errors.render(false), serde_json::to_string(&errors).unwrap()];
    for key in ["minisign", "token_file", "edge-1", "password"] {
        assert!(errors.shown().any(|fault| fault.key.ends_with(key)), "{key} is wrong: {}", told[0]);
    }
    assert!(told.iter().all(|text| !text.contains("hunter2")), "{told:?}");
}
