//! A PostgreSQL server, as whom it is read, and one blocking connection to it.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrowhop_types::Problems;
use futures::TryStreamExt;
use futures::future::{try_join, try_join3};
use tokio::runtime::Runtime;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{Client, Config, NoTls, Row, SimpleQueryMessage, Socket};

use super::connection_string;
use super::encryption::Encryption;
use super::gates::ServerFacts;
use crate::error::SourceError;

/// A server answers a connection within this time, unless the connection string says otherwise.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Where PostgreSQL's socket is, if nothing says otherwise.
const SOCKET_FOLDER: &str = "/var/run/postgresql";
/// What every connection begins with: rows in the order in which they lie, texts as everywhere.
const SETTINGS: &str = "SET application_name = 'arrowhop'; SET synchronize_seqscans = off; \
     SET TimeZone = 'UTC'; SET DateStyle = 'ISO, YMD'; SET IntervalStyle = 'iso_8601'; \
     SET extra_float_digits = 1; SET statement_timeout = 0; \
     SET idle_in_transaction_session_timeout = 0";

/// A database on a PostgreSQL server, and as whom it is read.
#[derive(Clone, PartialEq, Eq)]
pub struct Server {
    config: Arc<Config>,
    encryption: Arc<Encryption>,
    role: Option<String>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Server").field(&self.name()).field(&self.role).finish()
    }
}

impl Server {
    /// Reads a connection string, `host=… dbname=…` or `postgresql://…`. What it leaves out comes
    /// from libpq's variables (`PGHOST`, `PGPORT`, `PGUSER`, `PGDATABASE`, `PGPASSWORD`), which
    /// `variable` looks up; a password also from `PGPASSFILE` or `~/.pgpass`. TLS is asked for as of
    /// libpq: `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, their variables (`PGSSLMODE` and so forth)
    /// and the files of `~/.postgresql`.
    ///
    /// # Errors
    /// What is wrong with the connection string or a variable.
    pub fn parse(text: &str, variable: impl Fn(&str) -> Option<String>) -> Result<Self, Problems> {
        let (values, text) = connection_string::take(text, &Encryption::keys());
        let encryption = Encryption::read(&values, &variable)?;
        let mut config: Config = text.parse().map_err(|error: tokio_postgres::Error| {
            let reason =
                std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
            let text = format!(
                "is no connection string of PostgreSQL: {reason}; give \
                 `host=… dbname=… user=…` or postgresql://user@host/database"
            );
            Problems::one("server", text)
        })?;
        if config.get_hosts().is_empty() {
            config.host(variable("PGHOST").unwrap_or_else(|| SOCKET_FOLDER.to_owned()));
        }
        if config.get_ports().is_empty()
            && let Some(port) = variable("PGPORT")
        {
            let port = port.parse().map_err(|_| Problems::one("PGPORT", "is no port"))?;
            config.port(port);
        }
        if config.get_user().is_none() {
            let user = variable("PGUSER").or_else(|| variable("USER"));
            config.user(user.unwrap_or_else(|| "postgres".to_owned()));
        }
        if config.get_dbname().is_none()
            && let Some(name) = variable("PGDATABASE")
        {
            config.dbname(name);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        config.ssl_mode(encryption.ssl_mode());
        let encryption = Arc::new(encryption);
        let mut server = Self { config: Arc::new(config), encryption, role: None };
        if server.config.get_password().is_none() {
            let password = variable("PGPASSWORD").or_else(|| {
                let file = variable("PGPASSFILE")
                    .or_else(|| variable("HOME").map(|home| format!("{home}/.pgpass")))?;
                server.password_of(Path::new(&file))
            });
            if let Some(password) = password {
                Arc::make_mut(&mut server.config).password(password);
            }
        }
        Ok(server)
    }

    /// Whether a connection string holds a password, which nobody wants to find in a record.
    #[must_use]
    pub fn has_password(text: &str) -> bool {
        let (_, text) = connection_string::take(text, &Encryption::keys());
        text.parse::<Config>().is_ok_and(|config| config.get_password().is_some())
    }

    /// Reads with the rights of this role, which the user must be a member of.
    #[must_use]
    pub fn with_role(mut self, role: Option<String>) -> Self {
        self.role = role;
        self
    }

    /// Connects with this password.
    pub(super) fn with_password(mut self, password: &str) -> Self {
        Arc::make_mut(&mut self.config).password(password);
        self
    }

    /// The same database and user on another server.
    pub(super) fn at(&self, host: &str, port: u16, options: Option<&str>) -> Self {
        let old = &self.config;
        let mut config = Config::new();
        config.host(host).port(port).ssl_mode(old.get_ssl_mode());
        config.ssl_negotiation(old.get_ssl_negotiation());
        config.channel_binding(old.get_channel_binding());
        if let Some(user) = old.get_user() {
            config.user(user).dbname(old.get_dbname().unwrap_or(user));
        }
        if let Some(password) = old.get_password() {
            config.password(password);
        }
        if let Some(limit) = old.get_connect_timeout() {
            config.connect_timeout(*limit);
        }
        if let Some(options) = options.or(old.get_options()) {
            config.options(options);
        }
        let (encryption, role) = (self.encryption.clone(), self.role.clone());
        Self { config: Arc::new(config), encryption, role }
    }

    /// Connects; the connection's own work is done on the runtime.
    fn connect(&self, runtime: &Runtime) -> Result<Client, SourceError> {
        let is_socket = |host: &Host| matches!(host, Host::Unix(_));
        let connected = if self.config.get_hosts().iter().all(is_socket) {
            let mut config = Config::clone(&self.config);
            begin(runtime, config.ssl_mode(SslMode::Disable), NoTls)
        } else if let Some(tls) = self.encryption.connector()? {
            begin(runtime, &self.config, tls)
        } else {
            begin(runtime, &self.config, NoTls)
        };
        connected.map_err(|source| {
            let mut doing = format!("connect to PostgreSQL at {}", self.name());
            if let Some(advice) = self.encryption.advice(&source) {
                doing += &format!(" ({advice})");
            }
            SourceError::Postgres { doing, source }
        })
    }

    /// With whose rights rows are read, if not the user's.
    pub(super) fn role(&self) -> Option<&str> {
        self.role.as_deref()
    }

    /// Host, port and database, for messages.
    #[must_use]
    pub fn name(&self) -> String {
        let database = self.config.get_dbname().or(self.config.get_user()).unwrap_or_default();
        format!("{}:{}/{database}", self.host(), self.port())
    }

    /// The first host, by name or by its socket's folder.
    pub(super) fn host(&self) -> &str {
        match self.config.get_hosts().first() {
            Some(Host::Tcp(name)) => name,
            Some(Host::Unix(path)) => path.to_str().unwrap_or_default(),
            None => "",
        }
    }

    /// Settings that a connection begins with.
    #[cfg(test)]
    pub(super) fn options(&self) -> Option<&str> {
        self.config.get_options()
    }

    pub(super) fn port(&self) -> u16 {
        self.config.get_ports().first().copied().unwrap_or(5_432)
    }

    /// The password in a file of libpq's, `host:port:database:user:password` a line, `*` for any.
    fn password_of(&self, file: &Path) -> Option<String> {
        let text = std::fs::read_to_string(file).ok()?;
        let host = match self.config.get_hosts().first()? {
            Host::Tcp(name) => name.as_str(),
            Host::Unix(_) => "localhost",
        };
        let port = self.port().to_string();
        let user = self.config.get_user()?;
        let database = self.config.get_dbname().unwrap_or(user);
        text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
            let fields = escaped(line);
            let [of_host, of_port, of_database, of_user, password] = fields.as_slice() else {
                return None;
            };
            let pairs =
                [(of_host, host), (of_port, &port), (of_database, database), (of_user, user)];
            let fits = pairs.iter().all(|(field, value)| *field == "*" || field == value);
            fits.then(|| password.clone())
        })
    }
}

/// The fields of a line, at most five; a backslash takes the next letter as it is.
fn escaped(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ':' if fields.len() < 5 => fields.push(String::new()),
            '\\' => fields.last_mut().expect("never empty").extend(letters.next()),
            letter => fields.last_mut().expect("never empty").push(letter),
        }
    }
    fields
}

fn begin<T>(runtime: &Runtime, config: &Config, tls: T) -> Result<Client, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, connection) = runtime.block_on(config.connect(tls))?;
    runtime.spawn(async move {
        // What goes wrong is told to whoever waits for an answer.
        let _ = connection.await;
    });
    Ok(client)
}

/// A connection, for one thread that waits.
pub(super) struct Session {
    runtime: Runtime,
    client: Client,
    place: String,
}

/// A parameter of a query and its type, so that it takes one round trip.
pub(super) type Parameter<'a> = (&'a (dyn ToSql + Sync), Type);

impl Session {
    pub(super) fn open(server: &Server) -> Result<Self, SourceError> {
        let session = Self::bare(server)?;
        session.wait(try_join(session.set_up(), session.set_role(server)))?;
        Ok(session)
    }

    /// A connection, and what the server says about itself to whoever connects, whatever the role.
    pub(super) fn open_with_facts(server: &Server) -> Result<(Self, ServerFacts), SourceError> {
        let session = Self::bare(server)?;
        let asked =
            try_join3(session.set_up(), ServerFacts::read(&session), session.set_role(server));
        let (_, facts, _) = session.wait(asked)?;
        Ok((session, facts))
    }

    /// A connection as the server begins it.
    pub(super) fn bare(server: &Server) -> Result<Self, SourceError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| SourceError::Thread { source })?;
        let client = server.connect(&runtime)?;
        Ok(Self { runtime, client, place: server.name() })
    }

    async fn set_up(&self) -> Result<(), SourceError> {
        self.run("set a session up", SETTINGS).await
    }

    async fn set_role(&self, server: &Server) -> Result<(), SourceError> {
        let Some(role) = &server.role else { return Ok(()) };
        let doing = format!("take the role {role}");
        self.run(&doing, &format!("SET ROLE {}", quoted(role))).await
    }

    /// Waits for answers. Of futures that are joined all questions are sent at once, in order.
    pub(super) fn wait<T>(
        &self,
        answers: impl Future<Output = Result<T, SourceError>>,
    ) -> Result<T, SourceError> {
        self.runtime.block_on(answers)
    }

    /// Runs statements that have no result; `doing` says in messages what for.
    pub(super) async fn run(&self, doing: &str, sql: &str) -> Result<(), SourceError> {
        self.client.batch_execute(sql).await.map_err(|source| self.failed(doing, source))
    }

    /// The rows of a query.
    pub(super) async fn rows(
        &self,
        doing: &str,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> Result<Vec<Row>, SourceError> {
        let rows = self.client.query_typed(sql, parameters).await;
        rows.map_err(|source| self.failed(doing, source))
    }

    /// All values of all rows of some statements, as text; null is empty.
    pub(super) async fn texts(&self, doing: &str, sql: &str) -> Result<Vec<String>, SourceError> {
        let messages = self.client.simple_query(sql).await;
        let messages = messages.map_err(|source| self.failed(doing, source))?;
        let mut texts = Vec::new();
        for message in &messages {
            if let SimpleQueryMessage::Row(row) = message {
                texts.extend((0..row.len()).map(|i| row.get(i).unwrap_or_default().to_owned()));
            }
        }
        Ok(texts)
    }

    /// The columns of a query, by name, with the OIDs of their types.
    pub(super) fn columns(&self, sql: &str) -> Result<Vec<(String, u32)>, SourceError> {
        let statement = self.runtime.block_on(self.client.prepare(sql));
        let statement = statement.map_err(|source| self.failed(&shown(sql), source))?;
        let columns = statement.columns().iter();
        Ok(columns.map(|column| (column.name().to_owned(), column.type_().oid())).collect())
    }

    /// Streams a query's rows in binary form, message by message.
    pub(super) fn copy(
        &self,
        doing: &str,
        query: &str,
        mut visit: impl FnMut(&[u8]) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let sql = format!("COPY ({query}) TO STDOUT (FORMAT binary)");
        let failed = |source| self.failed(doing, source);
        self.runtime.block_on(async {
            let stream = self.client.copy_out(&sql).await.map_err(failed)?;
            let mut stream = std::pin::pin!(stream);
            while let Some(message) = stream.try_next().await.map_err(failed)? {
                visit(&message)?;
            }
            Ok(())
        })
    }

    /// The rows of a statement in binary form, each as a tuple of a binary copy.
    pub(super) fn tuples(
        &self,
        doing: &str,
        sql: &str,
        mut visit: impl FnMut(&[u8]) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let failed = |source| self.failed(doing, source);
        let none: [(i32, Type); 0] = [];
        self.runtime.block_on(async {
            let rows = self.client.query_typed_raw(sql, none).await.map_err(failed)?;
            let mut rows = std::pin::pin!(rows);
            let mut tuple = Vec::new();
            while let Some(row) = rows.try_next().await.map_err(failed)? {
                tuple.clear();
                let columns = u16::try_from(row.len()).expect("a row has at most 1,664 columns");
                tuple.extend(columns.to_be_bytes());
                for i in 0..row.len() {
                    match row.try_get::<_, Option<Bytes<'_>>>(i).map_err(failed)? {
                        Some(Bytes(value)) => {
                            let length = u32::try_from(value.len()).expect("it came in a message");
                            tuple.extend(length.to_be_bytes());
                            tuple.extend(value);
                        }
                        None => tuple.extend((-1_i32).to_be_bytes()),
                    }
                }
                visit(&tuple)?;
            }
            Ok(())
        })
    }

    fn failed(&self, doing: &str, source: tokio_postgres::Error) -> SourceError {
        SourceError::Postgres { doing: format!("{doing} at {}", self.place), source }
    }
}

/// A value as it came, whatever its type.
struct Bytes<'a>(&'a [u8]);

impl<'a> FromSql<'a> for Bytes<'a> {
    fn from_sql(_: &Type, value: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(value))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// The beginning of a statement of the user's, for messages.
fn shown(sql: &str) -> String {
    const SHOWN: usize = 120;
    let words: Vec<&str> = sql.split_whitespace().collect();
    let text = words.join(" ");
    let cut: String = text.chars().take(SHOWN).collect();
    let more = if cut.len() < text.len() { "…" } else { "" };
    format!("run `{cut}{more}`")
}

/// A name as SQL takes it literally.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL takes it literally.
pub(super) fn literal(text: &str) -> String {
    format!("E'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_connection_string_leaves_out_comes_from_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pass");
        std::fs::write(&file, "# host\nother:*:*:*:no\nh:5433:d\\:b:*:s\\:e:cret\n").unwrap();
        let variable = |name: &str| match name {
            "PGHOST" => Some("h".to_owned()),
            "PGPORT" => Some("5433".to_owned()),
            "PGDATABASE" => Some("d:b".to_owned()),
            "PGUSER" => Some("u".to_owned()),
            "PGPASSFILE" => Some(file.display().to_string()),
            _ => None,
        };
        let server = Server::parse("", variable).unwrap();
        assert_eq!(server.name(), "h:5433/d:b");
        assert_eq!(server.config.get_password(), Some(&b"s:e:cret"[..]));
        assert!(!format!("{server:?}").contains("cret"));
        let server = Server::parse("postgresql://a:b@c:1/d", variable).unwrap();
        assert_eq!(server.name(), "c:1/d");
        assert_eq!(server.config.get_password(), Some(&b"b"[..]));
        assert_eq!(
            Server::parse("", |_| None).unwrap().name(),
            "/var/run/postgresql:5432/postgres"
        );
        let found = Server::parse("host", variable).unwrap_err().to_string();
        assert!(found.starts_with("server: is no connection string"), "{found}");
    }

    #[test]
    fn names_and_texts_are_quoted() {
        assert_eq!(quoted("a\"; DROP"), "\"a\"\"; DROP\"");
        assert_eq!(literal("it's \\"), "E'it\\'s \\\\'");
    }
}
