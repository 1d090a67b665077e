//! What the file of revocations says, and when proxies and the store know it.

use super::*;

fn of(id: &str) -> Revoked {
    Revoked::Token { issuer: "i".to_owned(), id: id.to_owned() }
}

/// What proxies are told after the file has said this.
fn file(writer: &mut CredentialWriterState, ids: &[&str], is_whole: bool) -> CredentialWork {
    let revoked = ids.iter().map(|id| of(id)).collect();
    writer.work(CredentialJob::File { revoked, is_whole, now: at(NOW) })
}

/// Changes as text, in some order: `+` revoked, `-` lifted.
fn text(changes: &[CredentialChange]) -> String {
    let one = |change: &CredentialChange| match change {
        CredentialChange::Revoked(Revoked::Token { id, .. }) => format!("+{id}"),
        CredentialChange::Lifted(Revoked::Token { id, .. }) => format!("-{id}"),
        other => panic!("{other:?}"),
    };
    let mut all: Vec<String> = changes.iter().map(one).collect();
    all.sort();
    all.join(" ")
}

/// From now on the disk takes no row and no removal of one, or it does again.
fn fill(folder: &Path, is_full: bool) {
    let change = if is_full {
        "CREATE TRIGGER no_row BEFORE INSERT ON revocation BEGIN SELECT RAISE(ABORT, 'full'); END;
         CREATE TRIGGER no_end BEFORE DELETE ON revocation BEGIN SELECT RAISE(ABORT, 'full'); END;"
    } else {
        "DROP TRIGGER no_row; DROP TRIGGER no_end;"
    };
    rusqlite::Connection::open(folder.join(store::FILE)).unwrap().execute_batch(change).unwrap();
}

/// However the store fails meanwhile: what the file revokes counts at once, and what it lifts as soon as the store is back.
#[test]
fn what_the_file_lifts_while_the_store_fails() {
    type Step = (bool, &'static [&'static str], bool, &'static str);
    // Whether the disk is full, what the file says, whether all of it could be read, and what proxies are told.
    let table: [(&str, &[Step], &str); 7] = [
        ("lifted late", &[(false, &["a", "b"], true, "+a +b"), (true, &["b"], true, "+b")], "-a"),
        ("never stored", &[(true, &["a"], true, "+a"), (false, &[], true, "-a")], ""),
        ("one for the other", &[(true, &["a"], true, "+a"), (true, &["b"], true, "+b")], "+b -a"),
        ("back again", &[(true, &["a"], true, "+a"), (true, &["b"], true, "+b"), (true, &["a"], true, "")], "+a -b"),
        ("a part", &[(true, &["a"], true, "+a"), (false, &["b"], false, "+a +b")], ""),
        ("a part, and all", &[(true, &["a"], true, "+a"), (true, &["b"], false, "+b")], "+a +b"),
        ("nothing to do", &[(false, &["a"], true, "+a"), (false, &["a"], true, "")], ""),
    ];
    for is_without_pepper in [false, true] {
        for (number, (case, steps, tidied)) in table.iter().enumerate() {
            let folder = folder(&format!("lifts-{is_without_pepper}-{number}"));
            let (mut writer, _) = writer(&folder);
            if is_without_pepper {
                made(order(&mut writer, make("k", None), at(NOW)).0);
                fs::remove_file(folder.join("api_keys.pepper")).unwrap();
                writer.work(CredentialJob::Configure { wanted: ConfiguredCredentials::Keys(None), now: at(NOW) });
                assert!(writer.trouble.is_some(), "{case}");
            }
            let mut was_full = false;
            for (is_full, ids, is_whole, told) in *steps {
                if was_full != *is_full {
                    fill(&folder, *is_full);
                    was_full = *is_full;
                }
                assert_eq!(text(&file(&mut writer, ids, *is_whole).changes), *told, "{case}: {ids:?}");
            }
            if was_full {
                fill(&folder, false);
            }
            let worked = writer.work(CredentialJob::Tidy(at(NOW), newest()));
            assert_eq!(text(&worked.changes), *tidied, "{case}: {is_without_pepper}");
            fs::remove_dir_all(&folder).unwrap();
        }
    }
}

/// What is over is lifted while the pepper is missing as well, and what the file revokes is lifted by nobody else.
#[test]
fn what_ends_while_something_else_is_wrong() {
    let folder = folder("ends");
    let (mut writer, _) = writer(&folder);
    made(order(&mut writer, make("k", None), at(NOW)).0);
    let revoke = |id: &str, expires| CredentialCommand::Revoke { revoked: of(id), expires, reason: String::new() };
    order(&mut writer, revoke("a", Some(NOW + 60)), at(NOW));
    order(&mut writer, revoke("b", Some(NOW + 60)), at(NOW));
    fs::remove_file(folder.join("api_keys.pepper")).unwrap();
    writer.work(CredentialJob::Configure { wanted: ConfiguredCredentials::Keys(None), now: at(NOW) });
    writer.work(CredentialJob::Tidy(at(NOW), newest()));
    fill(&folder, true);
    assert_eq!(text(&file(&mut writer, &["b"], true).changes), "+b");
    rusqlite::Connection::open(folder.join(store::FILE)).unwrap().execute_batch("DROP TRIGGER no_end").unwrap();
    assert_eq!(text(&writer.work(CredentialJob::Tidy(at(NOW + 60), newest())).changes), "-a");
    fs::remove_dir_all(&folder).unwrap();
}

/// What proxies are handed, and whether they are to wait for the file.
fn awaits(worked: CredentialWork) -> (bool, Vec<Revoked>) {
    let whole = worked.whole.as_ref().unwrap().try_clone().unwrap();
    (CredentialReader::begin(whole).unwrap().opening.awaits_file, handed(worked).2)
}

/// A proxy that starts before the file was read does not know all that is revoked.
#[test]
fn proxies_know_whether_the_file_was_read() {
    let folder = folder("awaited");
    let configure = || CredentialJob::Configure { wanted: ConfiguredCredentials::Revocations, now: at(NOW) };
    let mut late = CredentialWriterState::new(folder.clone());
    late.work(CredentialJob::AwaitFile(at(NOW)));
    let opened = late.work(configure());
    assert!(opened.is_configured && opened.is_new);
    assert_eq!(awaits(opened), (true, vec![]));
    let read = file(&mut late, &["a"], false);
    assert!(read.is_new && !read.is_configured);
    assert_eq!((text(&read.changes), awaits(read)), ("+a".to_owned(), (false, vec![of("a")])));
    assert!(file(&mut late, &["a"], true).whole.is_none(), "it is known already");
    // A reload names another file.
    let waits = late.work(CredentialJob::AwaitFile(at(NOW)));
    assert!(!waits.is_new, "those that know what is revoked go on");
    assert_eq!(awaits(waits), (true, vec![of("a")]));
    assert_eq!(awaits(file(&mut late, &["a"], true)), (false, vec![of("a")]));
    drop(late);

    // It was read before the store is open, as at a start.
    let mut early = CredentialWriterState::new(folder.clone());
    early.work(CredentialJob::AwaitFile(at(NOW)));
    assert_eq!(text(&file(&mut early, &["a", "b"], false).changes), "+a +b");
    let (is_awaited, mut revoked) = awaits(early.work(configure()));
    revoked.sort();
    assert_eq!((is_awaited, revoked), (false, vec![of("a"), of("b")]));
    let (answer, _) = order(&mut early, CredentialCommand::Revocations { after: 0 }, at(NOW));
    let ControlAnswer::Revocations(page) = answer else { panic!("{answer:?}") };
    assert_eq!(page.revocations.iter().map(|row| &*row.actor).collect::<Vec<_>>(), ["file", "file"]);
    fs::remove_dir_all(&folder).unwrap();
}

/// What the file revokes is in force though the store cannot be opened, and is in the store once it can be.
#[test]
fn the_file_of_revocations_without_a_store() {
    // Not there yet, so that no file in it can be opened.
    let folder = folder("file-without-store").join("state");
    let (mut writer, opened) = writer(&folder);
    let warnings = opened.warnings.clone().unwrap().concat();
    assert!(warnings.contains("`revocation.unavailable`"), "{warnings}");
    assert!(opened.is_new && handed(opened).2.is_empty());
    for (ids, is_whole, told, known) in [
        (&["a", "b"][..], true, "+a +b", &["a", "b"][..]),
        (&["a", "b"], true, "", &["a", "b"]),
        // A line cannot be read: the others stay.
        (&["c"], false, "+c", &["a", "b", "c"]),
        (&["c", "d"], true, "+d", &["c", "d"]),
    ] {
        assert_eq!(text(&file(&mut writer, ids, is_whole).changes), told, "{ids:?}");
        let gathered = handed(writer.work(CredentialJob::Gather(at(NOW)))).2;
        assert_eq!(gathered, known.iter().map(|id| of(id)).collect::<Vec<_>>(), "{ids:?}");
    }
    fs::create_dir(&folder).unwrap();
    let worked = writer.work(CredentialJob::Tidy(at(NOW), newest()));
    assert!(worked.is_new && worked.warnings.as_ref().is_some_and(Vec::is_empty), "{:?}", worked.warnings);
    assert_eq!(text(&worked.changes), "+c +d -a -b");
    let mut revoked = handed(worked).2;
    revoked.sort();
    assert_eq!(revoked, [of("c"), of("d")]);
    let (answer, _) = order(&mut writer, CredentialCommand::Revocations { after: 0 }, at(NOW));
    let ControlAnswer::Revocations(page) = answer else { panic!("{answer:?}") };
    assert_eq!(page.revocations.iter().map(|row| &*row.actor).collect::<Vec<_>>(), ["file", "file"]);
    fs::remove_dir_all(folder.parent().unwrap()).unwrap();
}

#[test]
fn the_file_of_revocations() {
    let folder = folder("file");
    let (mut writer, _) = writer(&folder);
    assert_eq!(text(&file(&mut writer, &["a", "b", "a"], true).changes), "+a +b");
    assert_eq!(text(&file(&mut writer, &["a", "b"], true).changes), "");
    // A line cannot be read: nothing is lifted.
    assert_eq!(text(&file(&mut writer, &["c"], false).changes), "+c");
    // An operator has revoked it as well: it stays revoked.
    let by_hand = CredentialCommand::Revoke { revoked: of("a"), expires: None, reason: "x".to_owned() };
    order(&mut writer, by_hand, at(NOW));
    assert_eq!(text(&file(&mut writer, &[], true).changes), "-b -c");
    let ControlAnswer::Revocations(page) = order(&mut writer, CredentialCommand::Revocations { after: 0 }, at(NOW)).0
    else {
        panic!("no revocations")
    };
    assert_eq!(page.revocations.len(), 1);
    let number = page.revocations[0].number;
    let (_, worked) = order(&mut writer, CredentialCommand::Lift { number }, at(NOW));
    assert_eq!(worked.changes, [CredentialChange::Lifted(of("a"))]);
    assert_eq!(refused(&order(&mut writer, CredentialCommand::Lift { number }, at(NOW)).0), "not_found");
    file(&mut writer, &["z"], true);
    assert_eq!(refused(&order(&mut writer, CredentialCommand::Lift { number: number + 1 }, at(NOW)).0), "of_file");
    fs::remove_dir_all(&folder).unwrap();
}
