//! TLS to a server, as libpq has it: whether it must be, whose certificate is trusted, and who one is.
//!
//! | `sslmode` | TLS | the server's certificate |
//! |---|---|---|
//! | `disable` | never | |
//! | `prefer`, the default | if the server has it | any |
//! | `require` | always | any; where an authority is known, one that it signed |
//! | `verify-ca` | always | one that an authority signed |
//! | `verify-full` | always | one that an authority signed, for the name that was connected to |
//!
//! Sockets of this machine have no TLS and need none.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrowhop_types::Problems;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection_string::Values;

/// The keys of a connection string, each with libpq's variable.
const KEYS: [(&str, &str); 4] = [
    ("sslmode", "PGSSLMODE"),
    ("sslrootcert", "PGSSLROOTCERT"),
    ("sslcert", "PGSSLCERT"),
    ("sslkey", "PGSSLKEY"),
];
/// What servers since PostgreSQL 17 look for.
const PROTOCOL: &[u8] = b"postgresql";

/// How a connection is encrypted. Files are read when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encryption {
    mode: Mode,
    root: Option<Root>,
    /// Who one is: a certificate and its key.
    own: Option<(PathBuf, PathBuf)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// Where trusted authorities are.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Root {
    /// This machine's.
    System,
    File(PathBuf),
}

impl Encryption {
    /// The keys of a connection string that are read here.
    pub(super) fn keys() -> [&'static str; 4] {
        KEYS.map(|(key, _)| key)
    }

    /// From a connection string's values; what these leave out from variables and from files where
    /// libpq looks for them.
    pub(super) fn read(
        values: &Values,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Self, Problems> {
        let get = |key: usize| {
            let (key, name) = KEYS[key];
            values.get(key).cloned().or_else(|| variable(name)).filter(|value| !value.is_empty())
        };
        let home = |file: &str| {
            let path = Path::new(&variable("HOME")?).join(".postgresql").join(file);
            path.exists().then_some(path)
        };
        let root = match get(1) {
            Some(system) if system == "system" => Some(Root::System),
            Some(path) => Some(Root::File(path.into())),
            None => home("root.crt").map(Root::File),
        };
        let mode = match get(0).as_deref() {
            Some("disable") => Mode::Disable,
            Some("prefer") => Mode::Prefer,
            Some("require") => Mode::Require,
            Some("verify-ca") => Mode::VerifyCa,
            Some("verify-full") => Mode::VerifyFull,
            None if root == Some(Root::System) => Mode::VerifyFull,
            None => Mode::Prefer,
            Some(other) => {
                let text =
                    format!("is {other}; give disable, prefer, require, verify-ca or verify-full");
                return Err(Problems::one("sslmode", text));
            }
        };
        if root == Some(Root::System) && mode != Mode::VerifyFull {
            let text = "is weaker than verify-full, which sslrootcert=system asks for: anyone has a \
                        certificate of one of the system's authorities; leave it out";
            return Err(Problems::one("sslmode", text));
        }
        if root.is_none() && mode >= Mode::VerifyCa {
            let text = "needs an authority to trust: give sslrootcert, a file or `system`, or put it \
                        into ~/.postgresql/root.crt";
            return Err(Problems::one("sslmode", text));
        }
        let own = match (get(2), get(3)) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (Some(certificate), None) => {
                let key = home("postgresql.key").ok_or_else(|| {
                    Problems::one("sslcert", "is given without sslkey, its private key; give both")
                })?;
                Some((certificate.into(), key))
            }
            (None, key) => {
                let key = key.map(PathBuf::from).or_else(|| home("postgresql.key"));
                home("postgresql.crt").zip(key)
            }
        };
        Ok(Self { mode, root, own })
    }

    /// What the driver calls it.
    pub(super) fn ssl_mode(&self) -> SslMode {
        match self.mode {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        }
    }

    /// What makes TLS connections; nothing where there are to be none.
    pub(super) fn connector(&self) -> Result<Option<MakeRustlsConnect>, Problems> {
        if self.mode == Mode::Disable {
            return Ok(None);
        }
        if self.root == Some(Root::System) {
            return self.system_connector().map(Some);
        }
        let provider = Arc::new(ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has all versions");
        let trusted = match (&self.root, self.mode) {
            (Some(Root::File(path)), Mode::Require | Mode::VerifyCa | Mode::VerifyFull) => {
                let roots = Arc::new(roots(path)?);
                let verifier =
                    WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
                Some(verifier.map_err(|error| wrong("sslrootcert", path, &error))?)
            }
            _ => None,
        };
        let config = match trusted {
            Some(verifier) if self.mode == Mode::VerifyFull => {
                config.with_webpki_verifier(verifier)
            }
            trusted => config
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AnyName { trusted, provider })),
        };
        let mut config = match &self.own {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = certificates("sslcert", certificate)?;
                let secret = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| wrong("sslkey", key, &error))?;
                let made = config.with_client_auth_cert(chain, secret);
                made.map_err(|error| wrong("sslcert", certificate, &error))?
            }
        };
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Some(MakeRustlsConnect::new(config)))
    }

    fn system_connector(&self) -> Result<MakeRustlsConnect, Problems> {
        if self.own.is_some() {
            let text = "is `system`, which does not go with a certificate of one's own: name the file \
                        of the system's authorities";
            return Err(Problems::one("sslrootcert", text));
        }
        // Whoever comes first decides; all of them do.
        let _ = ring::default_provider().install_default();
        let (connector, _) = MakeRustlsConnect::with_native_certs().map_err(|errors| {
            let reasons: Vec<String> = errors.iter().map(ToString::to_string).collect();
            let text =
                format!("finds no authorities of this system: {}; name a file", reasons.join(", "));
            Problems::one("sslrootcert", text)
        })?;
        Ok(connector)
    }

    /// What to do about a connection that was not made, if that is known.
    pub(super) fn advice(&self, error: &tokio_postgres::Error) -> Option<String> {
        let text = |text: &str| Some(text.to_owned());
        if let Some(error) = error.as_db_error() {
            let message = error.message();
            return match error.code().code() {
                "28000" if message.contains("no encryption") => {
                    text("the server wants TLS from this host: set sslmode=require")
                }
                "28000" if message.contains("client certificate") => text(
                    "set sslcert and sslkey to a certificate that the server trusts, and its key",
                ),
                _ => None,
            };
        }
        let source = error.source()?;
        if source.to_string().contains("does not support TLS") {
            return text("the server has no TLS: set `ssl = on` there, or sslmode=disable here");
        }
        let rustls::Error::InvalidCertificate(reason) = rustls_error(source)? else {
            let is_about_us = source.to_string().contains("received fatal alert");
            return is_about_us.then(|| {
                "the server refused: set sslcert and sslkey to a certificate that it trusts, and its key"
                    .to_owned()
            });
        };
        match reason {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                let root = match &self.root {
                    Some(Root::File(path)) => path.display().to_string(),
                    _ => "this system".to_owned(),
                };
                Some(format!(
                    "no authority of {root} signed the server's certificate: set sslrootcert to the \
                     one that did"
                ))
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                text(
                    "the server's certificate is for another name: connect by one of its own, or set \
                     sslmode=verify-ca",
                )
            }
            other if other.to_string().contains("CaUsedAsEndEntity") => text(
                "the server's certificate is an authority's own: give the server one that it signed",
            ),
            _ => None,
        }
    }
}

/// TLS's own error below a driver's.
fn rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

fn roots(path: &Path) -> Result<RootCertStore, Problems> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("sslrootcert", path)? {
        roots.add(certificate).map_err(|error| wrong("sslrootcert", path, &error))?;
    }
    Ok(roots)
}

/// All certificates of a file; at least one.
fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, Problems> {
    let read = || CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>();
    let found = read().map_err(|error| wrong(key, path, &error))?;
    if found.is_empty() {
        return Err(wrong(key, path, &"it has no certificate"));
    }
    Ok(found)
}

fn wrong(key: &str, path: &Path, error: &dyn std::fmt::Display) -> Problems {
    Problems::one(key, format!("{} cannot be used: {error}; give a file in PEM", path.display()))
}

/// Takes certificates for any name; where authorities are trusted, only theirs.
#[derive(Debug)]
struct AnyName {
    trusted: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(trusted) = &self.trusted else { return Ok(ServerCertVerified::assertion()) };
        // The name is looked at last.
        match trusted.verify_server_cert(certificate, others, name, ocsp, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            found => found,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[(&'static str, &str)], home: &Path) -> Result<Encryption, String> {
        let values = values.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let variable = |name: &str| (name == "HOME").then(|| home.display().to_string());
        Encryption::read(&values, &variable).map_err(|found| found.to_string())
    }

    #[test]
    fn what_is_trusted_follows_from_keys_variables_and_files() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".postgresql");
        let of = |values: &[(&'static str, &str)]| read(values, home.path());
        assert_eq!(of(&[]), Ok(Encryption { mode: Mode::Prefer, root: None, own: None }));
        let needs_root = of(&[("sslmode", "verify-full")]).unwrap_err();
        assert!(needs_root.starts_with("sslmode: needs an authority to trust"), "{needs_root}");
        let allow = of(&[("sslmode", "allow")]).unwrap_err();
        assert!(allow.starts_with("sslmode: is allow; give disable"), "{allow}");
        let weak = of(&[("sslmode", "require"), ("sslrootcert", "system")]).unwrap_err();
        assert!(weak.starts_with("sslmode: is weaker than verify-full"), "{weak}");
        let system = of(&[("sslrootcert", "system")]).unwrap();
        assert_eq!((system.mode, system.root), (Mode::VerifyFull, Some(Root::System)));
        let lone = of(&[("sslcert", "a.crt")]).unwrap_err();
        assert_eq!(lone, "sslcert: is given without sslkey, its private key; give both");

        std::fs::create_dir(&folder).unwrap();
        for file in ["root.crt", "postgresql.crt", "postgresql.key"] {
            std::fs::write(folder.join(file), "").unwrap();
        }
        let found = of(&[("sslmode", "verify-ca")]).unwrap();
        assert_eq!(found.root, Some(Root::File(folder.join("root.crt"))));
        assert_eq!(found.own, Some((folder.join("postgresql.crt"), folder.join("postgresql.key"))));
        let variables = |name: &str| match name {
            "PGSSLMODE" => Some("verify-full".to_owned()),
            "PGSSLROOTCERT" => Some("/roots".to_owned()),
            "PGSSLCERT" => Some("/own".to_owned()),
            "PGSSLKEY" => Some("/key".to_owned()),
            _ => None,
        };
        let found = Encryption::read(&Values::new(), &variables).unwrap();
        let own = Some(("/own".into(), "/key".into()));
        let wanted =
            Encryption { mode: Mode::VerifyFull, root: Some(Root::File("/roots".into())), own };
        assert_eq!(found, wanted);
        let error = found.connector().err().unwrap().to_string();
        assert!(error.starts_with("sslrootcert: /roots cannot be used: "), "{error}");
    }
}
