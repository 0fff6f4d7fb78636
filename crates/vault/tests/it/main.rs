//! Vaults: written, read, attacked, repaired, pruned, copied, encrypted. One program, since linking is most of its build.

mod checkpoint;
mod commit;
mod common;
mod copy_keys;
mod cuts;
mod damage;
mod encryption;
mod every_damage;
mod fixtures;
mod holds;
mod lifecycle;
mod locks;
mod log;
mod no_lie;
mod projection;
mod prune;
mod recover;
mod reencrypt;
mod reencrypt_keys;
mod repair;
mod requests;
mod rivals;
mod s3;
mod table_keys;
