//! The listener: which addresses it may be bound to, and what guards it there.
//!
//! On loopback only this machine can call, and it needs neither TLS nor tokens; what is set is
//! enforced there too. Beyond loopback both are wanted, or the listener is not bound. Where TLS ends
//! elsewhere, as in the sidecar of a service mesh, [`ALLOW_PLAINTEXT`] lets it be left out; there is
//! no such switch for tokens.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::Arc;

use pregon_core::clock::SharedClock;
use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

pub use crate::files::BadFile;
use crate::files::Followed;
use crate::tls::Tls;
pub use crate::tls::TlsFiles;
use crate::tokens::{Tokens, TokensFile};

/// The setting that names the certificate of a listener.
pub const TLS_CERT_FILE: &str = "--tls-cert-file";
/// The setting that names the tokens file of a listener.
pub const TOKENS_FILE: &str = "--tokens-file";
/// The setting that lets a listener beyond loopback go without TLS.
pub const ALLOW_PLAINTEXT: &str = "--allow-plaintext";

/// Where to listen, and what guards it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// The address; port 0 is any free one.
    pub addr: SocketAddr,
    /// TLS; none: plain text.
    pub tls: Option<TlsFiles>,
    /// The tokens of callers; none: nobody is authenticated, and everybody may do everything.
    pub tokens: Option<PathBuf>,
    /// Callers need a credential also where there is no file of tokens: an API key.
    pub keys: bool,
    /// Plain text beyond loopback: the value of the setting [`ALLOW_PLAINTEXT`].
    pub allow_plaintext: bool,
}

/// What a listener beyond loopback lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// TLS.
    Tls,
    /// Tokens.
    Tokens,
}

impl Lack {
    /// The setting that has to be set.
    pub fn setting(self) -> &'static str {
        match self {
            Lack::Tls => TLS_CERT_FILE,
            Lack::Tokens => TOKENS_FILE,
        }
    }

    /// Why, and what else there is.
    pub fn rule(self) -> String {
        match self {
            Lack::Tls => format!(
                "must be set to listen beyond loopback, or {ALLOW_PLAINTEXT} where TLS ends \
                 before the port"
            ),
            Lack::Tokens => "must be set to listen beyond loopback: without it, whoever reaches \
                             the port could do everything"
                .to_owned(),
        }
    }
}

impl Listen {
    /// On this address with nothing to guard it, which does for loopback.
    pub fn open(addr: SocketAddr) -> Self {
        Self { addr, tls: None, tokens: None, keys: false, allow_plaintext: false }
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        self.addr.ip().to_canonical().is_loopback()
    }

    /// Everything that it lacks for its address.
    pub fn lacks(&self) -> Vec<Lack> {
        let mut lacks = Vec::new();
        if !self.is_loopback() {
            if self.tls.is_none() && !self.allow_plaintext {
                lacks.push(Lack::Tls);
            }
            if self.tokens.is_none() && !self.keys {
                lacks.push(Lack::Tokens);
            }
        }
        lacks
    }
}

/// A bound port, and what guards it.
#[derive(Debug)]
pub struct Listener {
    pub(super) tcp: TcpListener,
    pub(super) addr: SocketAddr,
    pub(super) clock: SharedClock,
    listen: Listen,
    tls: Option<Followed<Tls>>,
    tokens: Option<Followed<TokensFile>>,
}

/// Why a port was not bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Beyond loopback without what is wanted there.
    #[error("listening on {addr} is refused: {}", said(lacks))]
    Unguarded {
        /// The address that was asked for.
        addr: SocketAddr,
        /// Everything that is missing.
        lacks: Vec<Lack>,
    },
    /// A file of the certificates or tokens cannot be used.
    #[error(transparent)]
    File(#[from] BadFile),
    /// The system refused.
    #[error("cannot listen on {addr}")]
    Io {
        /// The address that was asked for.
        addr: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
}

fn said(lacks: &[Lack]) -> String {
    let lacks: Vec<_> =
        lacks.iter().map(|lack| format!("{} {}", lack.setting(), lack.rule())).collect();
    lacks.join("; ")
}

impl Listener {
    /// Reads the certificates and tokens and binds the port. The clock judges what expires.
    ///
    /// # Errors
    ///
    /// Where something is missing beyond loopback, a file cannot be used, or the port is taken.
    pub async fn bind(listen: Listen, clock: SharedClock) -> Result<Self, BindError> {
        let addr = listen.addr;
        let lacks = listen.lacks();
        if !lacks.is_empty() {
            return Err(BindError::Unguarded { addr, lacks });
        }
        let bind = async { TcpListener::bind(addr).await };
        Self::over(bind, listen, clock).await
    }

    /// The same port once more, its files read anew: who listens there last must end before the other
    /// begins, or each gets some of the callers.
    ///
    /// # Errors
    ///
    /// A file cannot be used any more, or the system has no room for it.
    pub async fn again(&self) -> Result<Self, BindError> {
        let share = async {
            let tcp = std::net::TcpListener::from(self.tcp.as_fd().try_clone_to_owned()?);
            TcpListener::from_std(tcp)
        };
        Self::over(share, self.listen.clone(), Arc::clone(&self.clock)).await
    }

    /// Reads the files, and then takes the port.
    async fn over(
        port: impl Future<Output = io::Result<TcpListener>>,
        listen: Listen,
        clock: SharedClock,
    ) -> Result<Self, BindError> {
        let tls = match listen.tls.clone() {
            None => None,
            Some(files) => Some(Followed::load(Tls { files, clock: Arc::clone(&clock) }).await?),
        };
        let tokens = match listen.tokens.clone() {
            None => None,
            Some(file) => Some(Followed::load(TokensFile(file)).await?),
        };
        let addr = listen.addr;
        let bound = async {
            let tcp = port.await?;
            let addr = tcp.local_addr()?;
            Ok(Self { tcp, addr, clock, listen, tls, tokens })
        };
        bound.await.map_err(|source| BindError::Io { addr, source })
    }

    /// The address that it is bound to, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether it speaks TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether callers need a credential.
    pub fn is_guarded(&self) -> bool {
        self.listen.keys || self.tokens.is_some()
    }

    /// The tokens of callers, kept up to date by [`Self::follow`].
    pub(super) fn tokens(&self) -> Option<watch::Receiver<Arc<Tokens>>> {
        self.tokens.as_ref().map(Followed::current)
    }

    /// The TLS of new connections, kept up to date by [`Self::follow`].
    pub(super) fn tls(&self) -> Option<watch::Receiver<Arc<ServerConfig>>> {
        self.tls.as_ref().map(Followed::current)
    }

    /// The port; and the tasks that follow its files, which end when they are dropped.
    pub(super) fn follow(self) -> (TcpListener, Vec<AbortOnDropHandle<()>>) {
        let tls = self.tls.map(|tls| tokio::spawn(tls.follow()));
        let tokens = self.tokens.map(|tokens| tokio::spawn(tokens.follow()));
        let tasks = [tls, tokens].into_iter().flatten().map(AbortOnDropHandle::new).collect();
        (self.tcp, tasks)
    }
}
