//! Objects over HTTP, from a server that counts what it sends.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{AsArray, Float64Array, Int32Array, StringArray};
use arrow::datatypes::{Float64Type, Int32Type};

use crate::fixtures::{column, file_spec, tensor, write};
use crate::{Filter, Location, Origin, SourceError, Workspace, prepare};

/// Serves these bytes as `/bucket/t.parquet`, with ranges; counts the bytes of bodies.
fn serve(bytes: Vec<u8>) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/bucket/t.parquet", listener.local_addr().unwrap());
    let sent = Arc::new(AtomicU64::new(0));
    let (bytes, counter) = (Arc::new(bytes), sent.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (bytes, counter) = (bytes.clone(), counter.clone());
            std::thread::spawn(move || while answer(&stream, &bytes, &counter) {});
        }
    });
    (url, sent)
}

/// Answers one request; whether there may be another.
fn answer(mut stream: &TcpStream, bytes: &[u8], counter: &AtomicU64) -> bool {
    let mut lines = BufReader::new(stream).lines();
    let Some(Ok(first)) = lines.next() else { return false };
    let mut range = None;
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if let Some(asked) = line.to_ascii_lowercase().strip_prefix("range: bytes=") {
            let (from, to) = asked.split_once('-').unwrap();
            range = Some((from.parse::<usize>().unwrap(), to.parse::<usize>().unwrap() + 1));
        }
    }
    let (is_there, is_head) = (first.contains("/bucket/t.parquet "), first.starts_with("HEAD"));
    let (from, to) = range.unwrap_or((0, bytes.len()));
    let body = if is_there { &bytes[from..to.min(bytes.len())] } else { b"" };
    let status = match (is_there, range) {
        (false, _) => "404 Not Found".to_owned(),
        (true, None) => "200 OK".to_owned(),
        (true, Some(_)) => "206 Partial Content".to_owned(),
    };
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n", body.len());
    head +=
        "Last-Modified: Sat, 28 Nov 2026 00:00:00 GMT\r\nETag: \"1\"\r\nAccept-Ranges: bytes\r\n";
    if range.is_some() {
        head += &format!("Content-Range: bytes {from}-{}/{}\r\n", to - 1, bytes.len());
    }
    head += "\r\n";
    if !is_head {
        counter.fetch_add(body.len() as u64, Ordering::Relaxed);
    }
    let body = if is_head { b"" } else { body };
    stream.write_all(head.as_bytes()).is_ok() && stream.write_all(body).is_ok()
}

#[test]
fn only_the_columns_that_are_read_are_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let x = column("x", Float64Array::from_iter_values((0..5_000).map(f64::from)));
    let y = column("y", Int32Array::from_iter_values((0..5_000).map(|row| row % 7)));
    let text = (0..5_000).map(|row| format!("{row:0>90}"));
    let path = write(dir.path(), "t", &[x, y, column("z", StringArray::from_iter_values(text))]);
    let bytes = std::fs::read(&path).unwrap();
    let size = bytes.len() as u64;
    let (url, sent) = serve(bytes);

    let (table, _) = Location::of(&url).source().open(None, &Workspace::in_memory()).unwrap();
    assert_eq!((table.rows(), table.schema().fields().len()), (5_000, 3));
    let footer = sent.swap(0, Ordering::Relaxed);
    let rows: Vec<u32> = (150..450).collect();
    let found = table.scan(&["y"], &rows, vec![(); 300], |chunk| {
        Ok(chunk.column("y").as_primitive::<Int32Type>().values().to_vec())
    });
    let wanted: Vec<i32> = (150..450).map(|row| row % 7).collect();
    assert_eq!(found.unwrap().concat(), wanted);
    // Four of fifty row groups, one of three columns.
    let fetched = sent.load(Ordering::Relaxed);
    assert!(fetched < size / 100, "{fetched} of {size} bytes, after {footer} of the footer");

    let here = file_spec(&path, tensor());
    let mut there = here.clone();
    let Origin::Tables { train, .. } = &mut there.origin else { panic!("tables") };
    *train = Location::of(&url);
    assert_eq!(prepare(&here).unwrap().data_set, prepare(&there).unwrap().data_set);
}

#[test]
fn of_groups_that_cannot_have_a_row_nothing_is_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let x = column("x", Float64Array::from_iter_values((0..5_000).map(f64::from)));
    let text = (0..5_000).map(|row| format!("{row:0>90}"));
    let path = write(dir.path(), "t", &[x, column("z", StringArray::from_iter_values(text))]);
    let bytes = std::fs::read(&path).unwrap();
    let size = bytes.len() as u64;
    let (url, sent) = serve(bytes);
    let filter = Filter::parse("where", "x BETWEEN 1020 AND 1380 OR x < 5").unwrap();

    let (table, _) = Location::of(&url)
        .filtered(Some(filter))
        .source()
        .open(None, &Workspace::in_memory())
        .unwrap();
    let rows: Vec<u32> = (0..table.rows()).collect();
    let found = table.scan(&["x"], &rows, vec![(); rows.len()], |chunk| {
        Ok(chunk.column("x").as_primitive::<Float64Type>().values().to_vec())
    });
    let wanted: Vec<f64> = (0..5).chain(1_020..1_381).map(f64::from).collect();
    assert_eq!(found.unwrap().concat(), wanted);
    // The footer, its index of pages, and five of fifty row groups.
    let fetched = sent.load(Ordering::Relaxed);
    assert!(fetched < size / 4, "{fetched} of {size} bytes");
}

#[test]
fn what_is_not_there_is_named() {
    let (url, _) = serve(b"ARROW1 nothing behind it".to_vec());
    let error =
        |url: &str| Location::of(url).source().open(None, &Workspace::in_memory()).err().unwrap();
    let missing = url.replace("t.parquet", "gone.parquet");
    let found = error(&missing);
    assert_eq!(found.to_string(), format!("read {missing}"));
    assert_eq!(arrowhop_types::Classify::class(&found), arrowhop_types::ErrorClass::Missing);
    assert!(matches!(error(&url), SourceError::Input(_)), "it is damaged");
    assert!(error(&url).to_string().starts_with(&format!("{url}: is damaged, or compressed: ")));
    assert_eq!(error("ftp://host/file").to_string(), "read ftp://host/file");
}
