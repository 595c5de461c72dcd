//! `pregon keys`: master keys, as an operator changes them.
//!
//! `new`, `wrap` and `rewrap` work on lines and files, with the KMS if one is named.
//! `list` and `reseal` ask a running control plane, so that they work the same whatever the store is, and
//! what they do is in the audit log under the name of whoever did it.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::{Args, Subcommand};
use pregon_core::seal::{GivenKey, GivenKeys, new_key};
use pregon_proto::v1;
use pregon_proto::v1::master_key_service_client::MasterKeyServiceClient;
use tonic::transport::Channel;
use tonic::{Code, Status};
use zeroize::Zeroizing;

use super::kms::Transit;
use super::rewrite::{self, Rewritten};
use crate::client::{Way, told};
use crate::settings::KmsArgs;

/// How long one call may take: a page is sealed anew in less than a second.
const TIME: Duration = Duration::from_secs(30);
/// Documents that one call looks at.
const PAGE: i32 = 200;
/// How often a call is repeated that was refused for the moment, before the command gives up.
const TRIES: u32 = 30;
/// How long to wait before that.
const WAIT: Duration = Duration::from_secs(1);
/// Walks over all documents: what others seal under the old key during one is found by the next.
const WALKS: u32 = 3;
/// Documents that do not open and are named.
const NAMED: usize = 20;

/// Makes, wraps and lists master keys, and seals the store's secrets anew under the newest.
#[derive(Args, Clone, Debug)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum KeysCommand {
    /// Makes a master key: prints it, as a line for the key file, and its id beside it.
    ///
    /// Wrapped where a KMS is named with --kms-address: then the key itself is never shown, and the
    /// token needs `update` on `encrypt` and `decrypt` of the transit key.
    New(KmsArgs),
    /// Wraps the keys of a key file by a KMS: the file is replaced, and holds no key any more.
    ///
    /// Each is opened again before, so the token needs `update` on `encrypt` and `decrypt` of the
    /// transit key. Processes need --kms-address before. Copies of the old file still hold the keys.
    Wrap(FileArgs),
    /// Wraps the keys of a key file anew, after the KMS's transit key was rotated.
    ///
    /// The token needs `update` on `rewrap` of the transit key, and no key is seen. The master keys are
    /// the same afterwards.
    Rewrap(FileArgs),
    /// Lists the master keys: which seals, how many documents lie under each, which processes lack it.
    List(WayArgs),
    /// Seals everything in the store anew under the first key of the key file, while all run.
    ///
    /// It may be stopped and begun again at any time. Ends with status 0 once nothing lies under another
    /// key.
    Reseal(WayArgs),
}

/// A key file and the KMS that wraps its keys, as text.
#[derive(Args, Clone, Debug)]
struct FileArgs {
    /// The key file.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    #[command(flatten)]
    kms: KmsArgs,
}

/// How the control plane is reached, as text.
#[derive(Args, Clone, Debug)]
struct WayArgs {
    /// Where a control plane is: HOST:PORT, which is plain text, or http://… or https://….
    #[arg(value_name = "ADDRESS", default_value = "127.0.0.1:7070")]
    address: String,

    /// File with the token that is shown, alone on its line: of an admin, to list of an auditor.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,

    /// PEM file with the certificate authorities of an https:// address; the web's if not given.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,

    /// Name in the certificate of an https:// address, where it is not the address's own.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,

    /// PEM file with the certificate that is shown, where callers need one.
    #[arg(long, value_name = "FILE", requires = "key_file")]
    cert_file: Option<PathBuf>,

    /// PEM file with the key of that certificate.
    #[arg(long, value_name = "FILE", requires = "cert_file")]
    key_file: Option<PathBuf>,
}

/// What walks came to.
#[derive(Default)]
struct Done {
    examined: i64,
    resealed: i64,
    failed: Vec<String>,
    key: String,
}

impl KeysArgs {
    /// Does it and says what was done.
    pub async fn run(self) -> anyhow::Result<()> {
        match self.command {
            KeysCommand::New(kms) => make(kms).await,
            KeysCommand::Wrap(args) => {
                let (file, kms) = args.read()?;
                say(rewrite::wrap(&file, &kms).await?, "are wrapped now")
            }
            KeysCommand::Rewrap(args) => {
                let (file, kms) = args.read()?;
                say(
                    rewrite::rewrap(&file, &kms).await?,
                    "are wrapped under a newer transit key now",
                )
            }
            KeysCommand::List(args) => {
                let (way, mut client) = args.client()?;
                let listed = list(&way, &mut client).await?;
                for key in &listed.master_keys {
                    println!("{}", line(key));
                }
                if listed.unreadable_documents > 0 {
                    let count = listed.unreadable_documents;
                    println!("{count} documents cannot be read: it is not known what they need");
                }
                Ok(())
            }
            KeysCommand::Reseal(args) => {
                let (way, mut client) = args.client()?;
                reseal(&way, &mut client).await
            }
        }
    }
}

impl FileArgs {
    fn read(self) -> anyhow::Result<(PathBuf, Transit)> {
        Ok((self.file, Transit::new(self.kms.named()?)?))
    }
}

impl WayArgs {
    fn client(self) -> anyhow::Result<(Way, MasterKeyServiceClient<Channel>)> {
        let way = Way {
            address: self.address,
            token_file: self.token_file,
            ca_file: self.ca_file,
            server_name: self.server_name,
            cert_file: self.cert_file,
            key_file: self.key_file,
        };
        let client = MasterKeyServiceClient::new(way.channel(TIME)?);
        Ok((way, client))
    }
}

/// Says what became of a file's keys.
fn say(done: Rewritten, what: &str) -> anyhow::Result<()> {
    let Rewritten { changed, keys } = done;
    println!("{changed} of {keys} master keys {what}");
    Ok(())
}

async fn make(kms: KmsArgs) -> anyhow::Result<()> {
    let mut key = new_key(&mut |bytes| crate::random::fill(bytes));
    let given = GivenKeys::parse(&key)?;
    let id = given.ring(&[])?.current();
    if let Some(options) = kms.perhaps()? {
        let kms = Transit::new(options)?;
        for clear in given.keys() {
            if let GivenKey::Clear(clear) = clear {
                let wrapped = rewrite::wrap_key(&kms, clear).await?;
                key = Zeroizing::new(wrapped.as_str().to_owned());
            }
        }
    }
    let mut out = std::io::stdout();
    if out.is_terminal() {
        eprintln!("The key, for the first line of the key file of every process. Its id is {id}:");
    } else {
        eprintln!("made master key {id}");
    }
    writeln!(out, "{}", key.as_str())?;
    Ok(())
}

/// A key in a line.
fn line(key: &v1::MasterKey) -> String {
    let what = match (key.seals, key.given) {
        (true, true) => "seals",
        (true, false) => "seals, and is not in the key file",
        (false, true) => "opens",
        (false, false) => "is not in the key file",
    };
    let lacking = match key.lacking.is_empty() {
        true => String::new(),
        false => format!(", lacked by {}", key.lacking.join(" ")),
    };
    let sealing = match key.sealing.is_empty() {
        true => String::new(),
        false => format!(", sealed under by {}", key.sealing.join(" ")),
    };
    let wrapped = if key.wrapped { ", wrapped by a KMS" } else { "" };
    format!("{}  {} documents, {what}{wrapped}{lacking}{sealing}", key.id, key.documents)
}

async fn list(
    way: &Way,
    client: &mut MasterKeyServiceClient<Channel>,
) -> anyhow::Result<v1::ListMasterKeysResponse> {
    let asked = client.list_master_keys(way.request(v1::ListMasterKeysRequest {})?).await;
    let answer = asked.map_err(|status| anyhow::anyhow!("{}: {}", way.address, told(&status)))?;
    Ok(answer.into_inner())
}

async fn reseal(way: &Way, client: &mut MasterKeyServiceClient<Channel>) -> anyhow::Result<()> {
    for walked in 0..WALKS {
        let done = walk(way, client).await?;
        println!(
            "{} of {} documents sealed anew under master key {}",
            done.resealed, done.examined, done.key
        );
        if !done.failed.is_empty() {
            let named: Vec<_> = done.failed.iter().take(NAMED).map(String::as_str).collect();
            let (count, named) = (done.failed.len(), named.join(", "));
            bail!("{count} documents do not open under any key given: {named}");
        }
        if done.resealed == 0 {
            // Or whoever was quicker than the control plane's look would take the old key for the new.
            if walked == 0 {
                println!(
                    "a key that was put into the files less than two seconds ago is not known yet"
                );
            }
            return Ok(());
        }
    }
    bail!("others keep sealing under another key; run it again")
}

/// Looks at all documents once.
async fn walk(way: &Way, client: &mut MasterKeyServiceClient<Channel>) -> anyhow::Result<Done> {
    let (mut done, mut page_token, mut refused) = (Done::default(), String::new(), 0);
    loop {
        let request =
            v1::ResealDocumentsRequest { page_size: PAGE, page_token: page_token.clone() };
        let answer = match client.reseal_documents(way.request(request)?).await {
            Ok(answer) => answer.into_inner(),
            Err(status) => {
                refused += 1;
                let why = format!("{}: {}", way.address, told(&status));
                ensure!(passes(&status) && refused < TRIES, why);
                tokio::time::sleep(WAIT).await;
                continue;
            }
        };
        refused = 0;
        done.examined += i64::from(answer.examined);
        done.resealed += i64::from(answer.resealed);
        done.failed.extend(answer.failed);
        done.key = answer.master_key_id;
        if answer.next_page_token.is_empty() {
            return Ok(done);
        }
        page_token = answer.next_page_token;
    }
}

/// Whether a refusal may be gone in a moment: a key that was just put first seals once all processes had
/// it for ten seconds.
fn passes(status: &Status) -> bool {
    [Code::Unavailable, Code::ResourceExhausted, Code::FailedPrecondition].contains(&status.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_a_line() {
        let key = v1::MasterKey {
            id: "0011".into(),
            given: true,
            seals: false,
            documents: 7,
            lacking: vec!["nodes/n1".into(), "controlPlanes/c".into()],
            sealing: vec!["controlPlanes/d".into()],
            wrapped: false,
        };
        let lacked = "lacked by nodes/n1 controlPlanes/c, sealed under by controlPlanes/d";
        assert_eq!(line(&key), format!("0011  7 documents, opens, {lacked}"));
        let key = v1::MasterKey { seals: true, lacking: vec![], sealing: vec![], ..key };
        assert_eq!(line(&key), "0011  7 documents, seals");
        let wrapped = v1::MasterKey { wrapped: true, ..key.clone() };
        assert_eq!(line(&wrapped), "0011  7 documents, seals, wrapped by a KMS");
        let key = v1::MasterKey { seals: false, given: false, ..key };
        assert_eq!(line(&key), "0011  7 documents, is not in the key file");
    }
}
