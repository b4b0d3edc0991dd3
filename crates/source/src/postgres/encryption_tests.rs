//! TLS against a real server, with certificates that OpenSSL makes while the test runs.

use std::error::Error;
use std::path::Path;
use std::process::Command;

use super::harness::Postgres;
use super::tests::{request, rows};
use super::*;

/// Two authorities, a server's certificate for `localhost` and users' of both.
const CERTIFICATES: &str = r#"
set -e
umask 077
mkdir certificates
cd certificates
signed() {
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$2" \
        -keyout $1.key -out $1.csr
    printf '%s\n' "$3" > $1.ext
    shift 3
    openssl x509 -req -days 2 -in $name.csr -extfile $name.ext -out $name.crt "$@"
}
for name in own other; do
    signed $name $name 'basicConstraints = critical, CA:TRUE' -signkey $name.key
done
name=server
signed $name server 'subjectAltName = DNS:localhost' -CA own.crt -CAkey own.key -CAcreateserial
name=user
signed $name certified 'basicConstraints = CA:FALSE' -CA own.crt -CAkey own.key -CAcreateserial
name=stranger
signed $name certified 'basicConstraints = CA:FALSE' -CA other.crt -CAkey other.key -CAcreateserial
"#;

/// Who may connect, and how.
const RULES: &str = "
local all postgres trust
hostssl all postgres 127.0.0.1/32 trust
hostssl all secretive 127.0.0.1/32 scram-sha-256
hostssl all certified 127.0.0.1/32 cert
";

/// A server with TLS.
fn cluster() -> Option<Postgres> {
    let has_openssl = Command::new("openssl").arg("version").output().is_ok();
    if !has_openssl {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "openssl is not installed");
        eprintln!("skipped: openssl is not installed");
        return None;
    }
    let mut cluster = Postgres::start(&[], &["listen_addresses = '127.0.0.1'"])?;
    cluster.shell(CERTIFICATES);
    cluster.sql(
        "postgres",
        "CREATE ROLE certified LOGIN; SET password_encryption = 'scram-sha-256';
        CREATE ROLE secretive LOGIN PASSWORD 'hush';
        CREATE TABLE t AS SELECT k AS id, repeat('x', k) AS s FROM generate_series(1, 5000) k;
        GRANT SELECT ON t TO certified, secretive",
    );
    let settings = "ssl = on\nssl_cert_file = '../certificates/server.crt'\n\
                    ssl_key_file = '../certificates/server.key'\n\
                    ssl_ca_file = '../certificates/own.crt'\n";
    cluster.restart_after(|data| configure(data, settings, RULES));
    Some(cluster)
}

fn configure(data: &Path, settings: &str, rules: &str) {
    let file = data.join("postgresql.conf");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(file, before + settings).unwrap();
    std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
}

/// Whether a connection is encrypted; or every reason why there is none.
fn connected(cluster: &Postgres, text: &str) -> Result<bool, String> {
    let folder = cluster.folder().join("certificates");
    let text = text.replace("%", &format!("{}/", folder.display()));
    let server =
        Server::parse(&format!("{text} port={} dbname=postgres", cluster.port()), |name| {
            (name == "USER").then(|| "postgres".to_owned())
        });
    let session = server.map_err(|found| found.to_string()).and_then(|server| {
        Session::open(&server).map_err(|error| match error.source() {
            Some(cause) => format!("{error}: {cause}: {:?}", cause.source()),
            None => error.to_string(),
        })
    })?;
    let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(session.wait(session.texts("ask about TLS", query)).unwrap() == ["t"])
}

#[test]
fn what_is_encrypted_and_whom_one_trusts_is_as_in_libpq() {
    let Some(mut cluster) = cluster() else { return };
    for text in [
        "host=localhost sslmode=verify-full sslrootcert=%own.crt",
        "host=127.0.0.1 sslmode=verify-ca sslrootcert=%own.crt",
        "host=127.0.0.1 sslmode=require sslrootcert=%own.crt",
        "host=127.0.0.1 sslmode=require",
        "host=127.0.0.1 sslmode=prefer sslrootcert=%other.crt",
        "host=127.0.0.1",
        "host=127.0.0.1 user=secretive password=hush channel_binding=require",
        "host=localhost user=certified sslmode=verify-full sslrootcert=%own.crt sslcert=%user.crt \
         sslkey=%user.key",
    ] {
        assert_eq!(connected(&cluster, text), Ok(true), "{text}");
    }
    let socket =
        format!("host={} sslmode=verify-full sslrootcert=%own.crt", cluster.folder().display());
    assert_eq!(connected(&cluster, &socket), Ok(false), "sockets need no TLS");
    let other_name = "(the server's certificate is for another name: connect by one of its own";
    let other_root =
        "other.crt signed the server's certificate: set sslrootcert to the one that did)";
    for (text, wanted) in [
        ("host=127.0.0.1 sslmode=verify-full sslrootcert=%own.crt", other_name),
        ("host=localhost sslmode=verify-full sslrootcert=%other.crt", other_root),
        ("host=localhost sslmode=verify-ca sslrootcert=%other.crt", other_root),
        ("host=localhost sslmode=require sslrootcert=%other.crt", other_root),
        (
            "host=127.0.0.1 sslmode=disable",
            "(the server wants TLS from this host: set sslmode=require)",
        ),
        (
            "host=127.0.0.1 user=certified",
            "(set sslcert and sslkey to a certificate that the server",
        ),
        (
            "host=127.0.0.1 user=certified sslcert=%stranger.crt sslkey=%stranger.key",
            "(the server refused: set sslcert and sslkey to a certificate that it trusts, and its key)",
        ),
        ("host=127.0.0.1 sslcert=%user.crt sslkey=%own.key", "sslcert: "),
        ("host=127.0.0.1 sslcert=%user.crt sslkey=%none.key", "none.key cannot be used: "),
        ("host=localhost sslmode=verify-full sslrootcert=%own.key", "it has no certificate"),
        ("host=127.0.0.1 sslmode=verify-full", "sslmode: needs an authority to trust"),
    ] {
        let found = connected(&cluster, text).unwrap_err();
        assert!(found.contains(wanted), "{text}: {found}");
    }
    let no_tls = "ssl = off\n";
    let rules = "local all all trust\nhost all all 127.0.0.1/32 trust\n";
    cluster.restart_after(|data| configure(data, no_tls, rules));
    assert_eq!(connected(&cluster, "host=127.0.0.1"), Ok(false));
    let found = connected(&cluster, "host=127.0.0.1 sslmode=require").unwrap_err();
    assert!(found.contains("(the server has no TLS: set `ssl = on` there"), "{found}");
    let own = "ssl = on\nssl_cert_file = '../certificates/own.crt'\n\
               ssl_key_file = '../certificates/own.key'\n";
    cluster.restart_after(|data| configure(data, own, rules));
    let found = connected(&cluster, "host=127.0.0.1 sslmode=verify-ca sslrootcert=%own.crt");
    let found = found.unwrap_err();
    assert!(found.contains("(the server's certificate is an authority's own: give"), "{found}");
}

#[test]
fn rows_over_tls_are_the_same() {
    let Some(cluster) = cluster() else { return };
    let plain = Server::parse(&cluster.connection("postgres"), |_| None).unwrap();
    let folder = cluster.folder().join("certificates").display().to_string();
    let variable = |name: &str| match name {
        "PGSSLMODE" => Some("verify-full".to_owned()),
        "PGSSLROOTCERT" => Some(format!("{folder}/own.crt")),
        "PGUSER" => Some("postgres".to_owned()),
        _ => None,
    };
    let url = format!("postgresql://localhost:{}/postgres", cluster.port());
    let encrypted = Server::parse(&url, variable).unwrap();
    let wanted = rows(&read(&plain, &request("t", Access::Copy)).unwrap());
    let keyed = Request { hash_key: Some("id".into()), ..request("t", Access::Copy) };
    assert_eq!(rows(&read(&encrypted, &request("t", Access::Direct)).unwrap()), wanted);
    assert_eq!(rows(&read(&encrypted, &request("t", Access::Copy)).unwrap()), wanted);
    assert_eq!(rows(&read(&encrypted, &keyed).unwrap()).num_rows(), wanted.num_rows());
    // A server that another one names is reached alike.
    let at = encrypted.at("localhost", cluster.port(), None);
    assert_eq!(at, encrypted.clone().at("localhost", cluster.port(), None));
    assert_eq!(rows(&read(&at, &request("t", Access::Copy)).unwrap()), wanted);
    let elsewhere = encrypted.at("127.0.0.1", cluster.port(), None);
    assert!(read(&elsewhere, &request("t", Access::Copy)).is_err(), "its name is not verified");
}
