//! What a server answered that was asked for a list: judged before it takes the place of the list before. Pure.
//!
//! *Invariant:* nothing that cannot be read as a list replaces one: an error page, a list without entries, one that has
//! lost most of them, one whose checksum is another, one that is not signed by its key.

use std::borrow::Cow;

use aws_lc_rs::digest;
use data_encoding::HEXLOWER_PERMISSIVE;
use minisign_verify::{PublicKey, Signature};

use super::list::{FileContent, digest, read_list};
use crate::{
    message::observer::fetch::FetchAnswer,
    settings::{
        feed::{Feed, FeedSignature, SMALL},
        outbound::SecretUrl,
    },
    text::counted::counted,
};

/// What was fetched.
#[derive(Debug)]
pub(crate) enum FetchOutcome {
    /// There is another list.
    Changed(FileContent, Validators),
    /// There is no list, and why; the server wants to be left alone for so many seconds.
    Failed(String, u64),
    /// The observer could not be asked, or died.
    Interrupted(String),
    /// It is no list that may be taken: the digest of what came, and why.
    Refused(String, String),
    /// The list that is in force.
    Same(Option<Validators>),
}

/// By what the server knows which list there is already (RFC 9110 8.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Validators {
    pub(crate) etag: String,
    pub(crate) last_modified: String,
}

impl Validators {
    pub(crate) const fn is_empty(&self) -> bool {
        self.etag.is_empty() && self.last_modified.is_empty()
    }
}

/// Judges an answer. `asked`: what was in force when the server was asked.
pub(crate) fn judge(
    feed: &Feed,
    answer: &FetchAnswer,
    bytes: &[u8],
    in_force: Option<&String>,
    asked: &Validators,
) -> FetchOutcome {
    match answer.status {
        200 => {}
        304 if !asked.is_empty() => return FetchOutcome::Same(None),
        status => return FetchOutcome::Failed(format!("the server answers {status}"), answer.retry_after),
    }
    let validators = Validators { etag: answer.etag.clone(), last_modified: answer.last_modified.clone() };
    let digest = digest(feed, bytes);
    if let Some(fetched) = feed.fetched()
        && let Some(url) = &fetched.source.checksum
        && let Err(why) = verify(bytes, answer.checksum.as_deref().unwrap_or_default(), url, &fetched.source.url)
    {
        return FetchOutcome::Refused(digest, why);
    }
    if let Some(fetched) = feed.fetched()
        && let Some(signed) = &fetched.source.signed
        && let Err(why) = verify_signature(bytes, answer.signature.as_deref().unwrap_or_default(), signed)
    {
        return FetchOutcome::Refused(digest, why);
    }
    if in_force == Some(&digest) {
        return FetchOutcome::Same(Some(validators));
    }
    match read_list(feed, bytes, digest.clone()) {
        Ok(content) => FetchOutcome::Changed(content, validators),
        Err(why) => FetchOutcome::Refused(digest, format!("what was fetched {why}")),
    }
}

/// Whether a list may take the place of one that has `before` entries. `max_shrink` in millionths.
///
/// # Errors
/// Why not.
pub(crate) fn weigh(content: &FileContent, before: usize, max_shrink: u32) -> Result<(), String> {
    let (entries, failed) = (content.entries.len(), content.failed);
    if entries == 0 {
        let first = content.errors.first().map(|error| format!(", line {}: {}", error.line, error.message));
        return Err(format!("what was fetched has no entry{}", first.unwrap_or_default()));
    }
    if failed > u64::try_from(entries).unwrap_or(u64::MAX) {
        let failed = counted(failed, "line", "lines");
        return Err(format!("what was fetched is no list: {failed} cannot be read, {entries} can"));
    }
    let lost = before.saturating_sub(entries);
    let may_lose = u64::try_from(before).unwrap_or(u64::MAX).saturating_mul(max_shrink.into()) / 1_000_000;
    if before >= SMALL && u64::try_from(lost).unwrap_or(u64::MAX) > may_lose {
        return Err(format!(
            "what was fetched has {entries} entries, and {before} are in force: more are gone than max_shrink lets go"
        ));
    }
    Ok(())
}

/// Holds a list against a file of checksums: `HEX`, `HEX  NAME` or `SHA256 (NAME) = HEX`, a line each. Where there are
/// several, the line counts that names the list.
fn verify(bytes: &[u8], checksums: &str, url: &str, list: &SecretUrl) -> Result<(), String> {
    // Only the observer has read the file as a URL.
    let list = match &list.file {
        Some(file) => String::from_utf8_lossy(file.bytes.trim_ascii()),
        None => Cow::Borrowed(list.text.as_str()),
    };
    let is_sum = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lines: Vec<(&str, &str)> =
        checksums.lines().filter_map(|line| Some((line, line.split_ascii_whitespace().find(is_sum)?))).collect();
    let name = list.split(['?', '#']).next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let names = |line: &str| {
        line.split_ascii_whitespace().any(|word| {
            let word = word.trim_start_matches(['*', '(']).trim_end_matches(')');
            word.rsplit('/').next() == Some(name)
        })
    };
    let found = match lines.as_slice() {
        [] => return Err(format!("there is no SHA-256 at {}", host(url))),
        [(_, one)] => one,
        many => match many.iter().find(|(line, _)| !name.is_empty() && names(line)) {
            Some((_, sum)) => sum,
            None => return Err(format!("none of the checksums at {} is of this list", host(url))),
        },
    };
    let expect = HEXLOWER_PERMISSIVE.decode(found.as_bytes()).unwrap_or_default();
    if digest::digest(&digest::SHA256, bytes).as_ref() == expect.as_slice() {
        return Ok(());
    }
    Err(format!("its SHA-256 is not the one at {}: {found}", host(url)))
}

/// Holds a list against its signature. Signatures of the form that minisign wrote before 2021 are refused.
fn verify_signature(bytes: &[u8], signature: &str, signed: &FeedSignature) -> Result<(), String> {
    let key = PublicKey::from_base64(&signed.key).map_err(|_malformed| "`minisign` is no public key".to_owned())?;
    let signature = Signature::decode(signature).map_err(|_malformed| {
        let place = signed.url.as_deref().map_or_else(|| "beside it, with `.minisig`".to_owned(), host);
        format!("what is its signature ({place}) is none of minisign")
    })?;
    key.verify(bytes, &signature, false).map_err(|wrong| match wrong {
        minisign_verify::Error::UnexpectedKeyId => "it is signed by another key than `minisign`".to_owned(),
        minisign_verify::Error::UnexpectedAlgorithm | minisign_verify::Error::UnsupportedAlgorithm => {
            "its signature is of an old form: sign it by `minisign -S`, without `-l`".to_owned()
        }
        _ => "its signature is not of this list: one of them was changed".to_owned(),
    })
}

/// A URL without its path.
fn host(url: &str) -> String {
    crate::web::url::Url::parse(url).map(|url| url.authority()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::{
        guard::feeds::LineError,
        settings::{
            feed::{FeedPlace, FeedPurpose, FeedSource, FetchedFeed},
            outbound::Dial,
        },
    };

    fn feed(checksum: Option<&str>) -> Feed {
        let url = SecretUrl { text: "https://lists.example/a/drop.txt?x=/y".to_owned(), file: None };
        let source = FeedSource {
            name: "f".to_owned(),
            url,
            token: None,
            checksum: checksum.map(str::to_owned),
            signed: None,
            max_size: 1_024,
            dial: Dial::none(),
        };
        let every = std::time::Duration::from_secs(60);
        let fetched = FetchedFeed { source, every, stale_after: every, max_shrink: 500_000 };
        Feed::new("f".to_owned(), FeedPlace::Url(Box::new(fetched)), FeedPurpose::Ban)
    }

    /// What became of an answer, in a word.
    #[track_caller]
    fn check(feed: &Feed, answer: (u16, Option<&str>), body: &[u8], expect: &str) {
        let (status, checksum) = answer;
        let answer = FetchAnswer {
            status,
            etag: "\"2\"".to_owned(),
            checksum: checksum.map(str::to_owned),
            ..FetchAnswer::default()
        };
        let in_force = digest(feed, b"192.0.2.1\n");
        let asked = Validators { etag: "\"1\"".to_owned(), ..Validators::default() };
        let judged = match judge(feed, &answer, body, Some(&in_force), &asked) {
            FetchOutcome::Changed(content, validators) => {
                assert_eq!(validators.etag, "\"2\"");
                format!("changed {} {}", content.entries.len(), content.failed)
            }
            FetchOutcome::Failed(why, _) => format!("failed {why}"),
            FetchOutcome::Interrupted(why) => why,
            FetchOutcome::Refused(_, why) => format!("refused {why}"),
            FetchOutcome::Same(validators) => format!("same {}", validators.is_some()),
        };
        assert!(judged.contains(expect), "{status} {:?}: {judged}, not {expect}", String::from_utf8_lossy(body));
    }

    #[test]
    fn answers() {
        let plain = feed(None);
        for (status, body, expect) in [
            (200, &b"192.0.2.1\n192.0.2.2\n"[..], "changed 2 0"),
            (200, b"192.0.2.1\n", "same true"),
            (304, b"", "same false"),
            (200, b"", "changed 0 0"),
            (200, b"not found\n", "changed 0 1"),
            (200, b"<html><body>192.0.2.1</body></html>", "refused"),
            (200, b"\x1f\x8b\x08\x00", "refused what was fetched is compressed"),
            (204, b"", "failed the server answers 204"),
            (206, b"192.0.2.1\n192.0.2.2\n", "failed"),
            (404, b"192.0.2.1\n192.0.2.2\n", "failed the server answers 404"),
            (503, b"192.0.2.1\n", "failed the server answers 503"),
        ] {
            check(&plain, (status, None), body, expect);
        }
        // Nothing was said of what is in force: it cannot be unchanged.
        let answer = FetchAnswer { status: 304, ..FetchAnswer::default() };
        let judged = judge(&plain, &answer, b"", None, &Validators::default());
        assert!(matches!(judged, FetchOutcome::Failed(..)), "{judged:?}");
    }

    #[test]
    fn checksums() {
        let checked = feed(Some("https://sums.example/SHA256SUMS"));
        let body = b"192.0.2.1\n192.0.2.2\n";
        let sum = HEXLOWER_PERMISSIVE.encode(digest::digest(&digest::SHA256, body).as_ref());
        let other = "0".repeat(64);
        for (checksums, expect) in [
            (sum.clone(), "changed 2"),
            (format!("{}\n", sum.to_uppercase()), "changed 2"),
            (format!("{sum}  drop.txt\n"), "changed 2"),
            (format!("{sum} *./a/drop.txt\n"), "changed 2"),
            (format!("SHA256 (drop.txt) = {sum}\n"), "changed 2"),
            (format!("{other}  other.txt\n{sum}  drop.txt\n"), "changed 2"),
            (format!("{sum}  other.txt\n{other}  drop.txt\n"), "refused its SHA-256 is not the one at sums.example"),
            (format!("{sum}  a.txt\n{sum}  b.txt\n"), "refused none of the checksums"),
            (other, "refused its SHA-256"),
            (sum[..63].to_owned(), "refused there is no SHA-256"),
            ("<html>".to_owned(), "refused there is no SHA-256"),
            (String::new(), "refused there is no SHA-256"),
        ] {
            check(&checked, (200, Some(&checksums)), body, expect);
        }
        check(&checked, (304, None), b"", "same");
    }

    #[test]
    fn signatures() {
        const LIST: &[u8] = include_bytes!("../../../../tests/fixtures/minisign/list.txt");
        const SIGNATURE: &str = include_str!("../../../../tests/fixtures/minisign/list.txt.minisig");
        let key = |text: &'static str| text.lines().nth(1).unwrap().to_owned();
        let own = key(include_str!("../../../../tests/fixtures/minisign/minisign.pub"));
        let other = key(include_str!("../../../../tests/fixtures/minisign/other.pub"));
        let legacy = include_str!("../../../../tests/fixtures/minisign/list.txt.legacy.minisig");
        let comment = SIGNATURE.replace("trusted comment: timestamp", "trusted comment: Timestamp");
        assert_ne!(comment, SIGNATURE);
        let two_lines: String = SIGNATURE.lines().take(2).map(|line| format!("{line}\n")).collect();
        let longer = [LIST, b"192.0.2.9\n"].concat();
        for (key, list, signature, expect) in [
            (&own, LIST, SIGNATURE, "changed 2"),
            (&own, LIST, &SIGNATURE.replace('\n', "\r\n"), "changed 2"),
            (&own, &*longer, SIGNATURE, "refused its signature is not of this list"),
            (&own, b"", SIGNATURE, "refused its signature is not of this list"),
            (&own, LIST, &comment, "refused its signature is not of this list"),
            (&other, LIST, SIGNATURE, "refused it is signed by another key"),
            (&own, LIST, legacy, "refused its signature is of an old form"),
            (&own, LIST, &two_lines, "is none of minisign"),
            (&own, LIST, "<html>", "is none of minisign"),
            (&own, LIST, "", "is none of minisign"),
        ] {
            let mut feed = feed(None);
            let FeedPlace::Url(fetched) = &mut feed.place else { panic!("it is fetched") };
            fetched.source.signed = Some(FeedSignature { key: key.clone(), url: None });
            let answer = FetchAnswer { status: 200, signature: Some(signature.to_owned()), ..FetchAnswer::default() };
            let judged = match judge(&feed, &answer, list, None, &Validators::default()) {
                FetchOutcome::Changed(content, _) => format!("changed {}", content.entries.len()),
                FetchOutcome::Refused(_, why) => format!("refused {why}"),
                other => format!("{other:?}"),
            };
            assert!(judged.contains(expect), "{signature}: {judged}, not {expect}");
            // Nobody has to have asked for it: what does not come is not there.
            let unsigned = FetchAnswer { signature: None, ..answer };
            let judged = judge(&feed, &unsigned, list, None, &Validators::default());
            assert!(matches!(judged, FetchOutcome::Refused(..)), "{judged:?}");
        }
    }

    #[test]
    fn a_list_does_not_shrink_by_mistake() {
        for (entries, failed, before, max_shrink, expect) in [
            (0, 0, 0, 500_000, "no entry"),
            (0, 3, 100, 1_000_000, "no entry, line 7: nonsense"),
            (1, 2, 0, 500_000, "2 lines cannot be read"),
            (2, 2, 0, 500_000, ""),
            (50, 0, 100, 500_000, ""),
            (49, 0, 100, 500_000, "max_shrink"),
            (1, 0, 100, 1_000_000, ""),
            (99, 0, 100, 0, "max_shrink"),
            (100, 0, 100, 0, ""),
            (500, 0, 100, 0, ""),
            (1, 0, SMALL - 1, 500_000, ""),
            (1, 0, SMALL, 500_000, "max_shrink"),
        ] {
            let entry = || crate::guard::control::ImportEntry(1, "192.0.2.1".parse().unwrap(), None, None);
            let errors = (0..failed.min(1)).map(|_| LineError { line: 7, message: "nonsense".to_owned() }).collect();
            let entries = (0..entries).map(|_| entry()).collect();
            let content = FileContent { digest: String::new(), entries, errors, failed, is_blank: false };
            let weighed = weigh(&content, before, max_shrink).err().unwrap_or_default();
            assert!(
                weighed.contains(expect) && weighed.is_empty() == expect.is_empty(),
                "{before}: {weighed}, not {expect}"
            );
        }
        let path = PathBuf::from("list");
        assert!(Feed { place: FeedPlace::File(path), ..feed(None) }.fetched().is_none());
    }
}
