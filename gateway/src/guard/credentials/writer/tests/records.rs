//! The records that the audit chain is to have.

use super::*;

/// The guard knows by their numbers which records the chain has: those of a store that takes the place of another have none
/// of its numbers.
#[test]
fn numbers_of_another_store_are_others() {
    let folder = folder("numbers");
    let (mut writer, _) = writer(&folder);
    let mut last = 0;
    for round in 0..3 {
        for id in ["a", "b"] {
            let revoked = Revoked::Token { issuer: "i".to_owned(), id: format!("{id}-{round}") };
            let revoke = CredentialCommand::Revoke { revoked, expires: None, reason: String::new() };
            let (_, worked) = order(&mut writer, revoke, at(NOW + round));
            let numbers: Vec<i64> = worked.records.iter().map(|record| record.number).collect();
            assert!(matches!(*numbers, [number] if number > last), "{round} {id}: {numbers:?} after {last}");
            last = numbers[0];
            writer.work(CredentialJob::Recorded(numbers, newest()));
        }
        let spoil = "UPDATE revocation SET reason = CAST(x'ff' AS TEXT)";
        rusqlite::Connection::open(folder.join(store::FILE)).unwrap().execute_batch(spoil).unwrap();
        let gathered = writer.work(CredentialJob::Gather(at(NOW + round)));
        assert!(gathered.warnings.unwrap().concat().contains("was set aside as"), "{round}");
    }
    fs::remove_dir_all(&folder).unwrap();
}
