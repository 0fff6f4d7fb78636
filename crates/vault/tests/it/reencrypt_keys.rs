//! Keys of a vault that is made by re-encryption: for whom they are, beside rivals, thieves, and where nothing needs them.

use crate::common::schedule::{Scheduled, now};
use crate::common::*;
use crate::reencrypt::{NEW, OLD, made, open, options, place, small, whole, with_key};
use keepfast_keys::{Cost, Credentials, NewRecipient, Passphrase};
use keepfast_model::{Encryption, LogSeq};
use keepfast_objects::Target;
use keepfast_vault::{
    Clock, CreateOptions, Environment, NewEncryption, ReencryptOptions, Vault, VaultError, layout,
};
use object_store::memory::InMemory;
use std::sync::Arc;
use std::task::{Context, Waker};

/// The time of one record.
#[derive(Debug)]
struct Stopped(jiff::Timestamp);

impl Clock for Stopped {
    fn now(&self) -> jiff::Timestamp {
        self.0
    }
}

#[tokio::test]
async fn a_vault_that_stands_is_taken_only_for_the_recipients_that_were_named() {
    let (_, vault) = made(&Encryption::Full).await;
    let new = Arc::new(InMemory::new());
    let asked = options(NewEncryption::AsItWas);
    vault.reencrypt_to(&place(&new), &asked, &()).await.unwrap();
    let phrase = |text: &str| NewRecipient::Passphrase(Passphrase::new(text.into()), Cost::TRIVIAL);
    let refused = |store: &Arc<InMemory>, options: ReencryptOptions| {
        let (store, vault) = (fork(store), vault.clone());
        async move {
            let before = objects(&*store).await;
            let error = vault.reencrypt_to(&place(&store), &options, &()).await.unwrap_err();
            assert_eq!(objects(&*store).await, before);
            assert!(matches!(error, VaultError::OtherRecipients { .. }), "{error}");
        }
    };
    let credentials = Credentials::passphrase(NEW).with_passphrase(Passphrase::new(OLD.into()));
    let office = ("office".to_owned(), phrase(NEW));
    for recipients in [
        vec![("other".to_owned(), phrase("of another"))],
        vec![("office".to_owned(), phrase("of another"))],
        vec![office.clone(), ("other".to_owned(), phrase("of another"))],
        vec![office.clone(), ("recovery".to_owned(), NewRecipient::recovery().0)],
        vec![("office".to_owned(), NewRecipient::recovery().0)],
    ] {
        refused(&new, ReencryptOptions { recipients, credentials: credentials.clone(), ..asked.clone() })
            .await;
    }
    // Without any it goes on as it is.
    let as_it_is = ReencryptOptions { recipients: vec![], credentials: credentials.clone(), ..asked.clone() };
    assert_eq!(vault.reencrypt_to(&place(&fork(&new)), &as_it_is, &()).await.unwrap().kept, 4);

    // Whoever has the leaked passphrase puts a vault there that it opens, with keys and nothing else.
    let planted = Arc::new(InMemory::new());
    let of_thief = vault.target().get(&layout::log_record(LogSeq(1))).await.unwrap();
    let at = unseal(&of_thief)["at"].as_str().unwrap().parse().unwrap();
    let environment = Environment { clock: Arc::new(Stopped(at)), ..with_key(OLD) };
    let thief = CreateOptions { environment, ..CreateOptions::default() };
    let thief = Vault::create(place(&planted), &thief).await.unwrap();
    thief.add_recipient("passphrase", &phrase(OLD)).await.unwrap();
    refused(&planted, ReencryptOptions { credentials, ..asked }).await;
}

#[tokio::test]
async fn two_that_begin_at_once_never_write_over_each_others_keys() {
    let store = small(&Encryption::Full).await;
    let asked = options(NewEncryption::AsItWas);
    let (mut refused, mut taken_up) = (0, 0);
    for steps in 0.. {
        // One has come so far when the other does all of it.
        let new = Arc::new(InMemory::new());
        let (slow, quick) = (open(&store, OLD).await, open(&store, OLD).await);
        let slowly = Target::new(Scheduled::new(new.clone()), Default::default(), "memory:new");
        let nothing = ();
        let mut running = Box::pin(slow.reencrypt_to(&slowly, &asked, &nothing));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..steps {
            assert!(running.as_mut().poll(&mut context).is_pending());
        }
        let has_written = memory(new.clone()).size(&layout::key_file_copy(2)).await.unwrap().is_some();
        let done = quick.reencrypt_to(&place(&new), &asked, &()).await;
        assert!(done.is_ok(), "{steps}: {done:?}");
        match now(running) {
            Ok(_) => taken_up += 1,
            Err(_) => refused += 1,
        }
        let there = open(&new, NEW).await;
        whole(&there).await;
        assert_eq!(there.log().await.unwrap().all_points().count(), 2, "{steps}");
        if has_written {
            eprintln!("{steps} steps: {taken_up} went on from what the other did, {refused} were refused");
            break;
        }
    }
}

#[tokio::test]
async fn keys_that_no_record_would_name_are_not_made() {
    let (nothing, vault) = (Arc::new(InMemory::new()), Arc::new(InMemory::new()));
    let made = CreateOptions { environment: with_key(OLD), ..CreateOptions::default() };
    let empty = Vault::create(memory(vault), &made).await.unwrap();
    let asked = options(NewEncryption::AsItWas);
    let error = empty.reencrypt_to(&place(&nothing), &asked, &()).await.unwrap_err();
    assert!(matches!(error, VaultError::NothingToEncrypt { .. }), "{error}");
    assert!(!objects(&*nothing).await.contains_key(&layout::key_file(2)));

    let plain = open(&small(&Encryption::None).await, OLD).await;
    let new = Arc::new(InMemory::new());
    plain.reencrypt_to(&place(&new), &options(NewEncryption::None), &()).await.unwrap();
    let before = objects(&*new).await;
    let error = plain.reencrypt_to(&place(&new), &asked, &()).await.unwrap_err();
    assert!(matches!(error, VaultError::NothingToEncrypt { .. }), "{error}");
    assert_eq!(objects(&*new).await, before);
}
