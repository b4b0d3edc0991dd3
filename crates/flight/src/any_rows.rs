//! Rows of any columns, as strangers send them: everything that Arrow's IPC format can say, but
//! compressed. What arrives is validated, array by array, before anything else looks at it.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::convert::fb_to_schema;
use arrow::ipc::reader::{read_dictionary, read_record_batch};
use arrow::ipc::{Message, MessageHeader};
use arrow_flight::FlightData;
use arrowhop_types::Problems;

use crate::decode::{guarded, message};

/// Columns without values take no bytes, however many rows they claim.
const ROWS_MAX: i64 = 1 << 24;

/// A stream of batches that is being read.
#[derive(Default)]
pub(crate) struct AnyRows {
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
}

impl AnyRows {
    /// Reads the next message; rows come of some.
    pub(crate) fn read(&mut self, data: &FlightData) -> Result<Option<RecordBatch>, Problems> {
        if data.data_header.is_empty() {
            return if data.data_body.is_empty() {
                // A descriptor alone, or metadata.
                Ok(None)
            } else {
                Err(Problems::one("rows", "have a body without a header"))
            };
        }
        guarded("rows", || {
            let message = message("rows", &data.data_header)?;
            check_parts(&message, data.data_body.len())?;
            let body = Buffer::from(data.data_body.clone());
            let read = self.take(&message, &body);
            read.map_err(|error| Problems::one("rows", format!("cannot be read: {error}")))
        })
    }

    fn take(
        &mut self,
        message: &Message<'_>,
        body: &Buffer,
    ) -> Result<Option<RecordBatch>, ArrowError> {
        let refuse = |text: &str| ArrowError::IpcError(text.to_owned());
        if let Some(schema) = message.header_as_schema() {
            if self.schema.is_some() {
                return Err(refuse("a second schema came"));
            }
            self.schema = Some(Arc::new(fb_to_schema(schema)));
            return Ok(None);
        }
        let schema = self.schema.clone().ok_or_else(|| refuse("no schema came first"))?;
        let version = message.version();
        if let Some(dictionary) = message.header_as_dictionary_batch() {
            read_dictionary(body, dictionary, &schema, &mut self.dictionaries, &version)?;
            return Ok(None);
        }
        let batch = message.header_as_record_batch().ok_or_else(|| {
            refuse(&format!("a message of the kind {:?} came", message.header_type()))
        })?;
        read_record_batch(body, batch, schema, &self.dictionaries, None, &version).map(Some)
    }
}

/// What Arrow's reader takes on trust.
fn check_parts(message: &Message<'_>, body_bytes: usize) -> Result<(), Problems> {
    if usize::try_from(message.bodyLength()) != Ok(body_bytes) {
        let text = format!("have {body_bytes} bytes where {} are announced", message.bodyLength());
        return Err(Problems::one("rows", text));
    }
    let batch = match message.header_type() {
        MessageHeader::DictionaryBatch => {
            message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data())
        }
        _ => message.header_as_record_batch(),
    };
    let Some(batch) = batch else { return Ok(()) };
    if batch.compression().is_some() {
        return Err(Problems::one("rows", "are compressed; send them uncompressed"));
    }
    if !(0..=ROWS_MAX).contains(&batch.length()) {
        let text = format!("come in a batch of {}; send at most {ROWS_MAX}", batch.length());
        return Err(Problems::one("rows", text));
    }
    for buffer in batch.buffers().into_iter().flatten() {
        let (start, length) = (usize::try_from(buffer.offset()), usize::try_from(buffer.length()));
        let end = start.ok().zip(length.ok()).and_then(|(start, length)| start.checked_add(length));
        if end.is_none_or(|end| end > body_bytes) {
            return Err(Problems::one("rows", "have a buffer outside their message"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::{DictionaryArray, Float64Array, NullArray, StringArray};
    use arrow::datatypes::Int8Type;
    use arrow::ipc::writer::{
        DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions,
    };
    use proptest::prelude::*;

    use super::*;
    use crate::encode::schema_header;

    fn batch() -> RecordBatch {
        let words: DictionaryArray<Int8Type> = ["a", "b", "a", "c"].into_iter().collect();
        let text = StringArray::from(vec![Some("x"), None, Some("zz"), Some("")]);
        let numbers = Float64Array::from(vec![Some(1.0), None, Some(3.0), Some(4.0)]);
        let columns: [(&str, ArrayRef); 3] =
            [("d", Arc::new(words)), ("t", Arc::new(text)), ("n", Arc::new(numbers))];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    /// A schema, dictionaries, and rows.
    fn messages(batch: &RecordBatch) -> Vec<FlightData> {
        let mut tracker = DictionaryTracker::new(false);
        let options = IpcWriteOptions::default();
        let generator = IpcDataGenerator::default();
        let mut context = IpcWriteContext::default();
        let first = generator.schema_to_bytes_with_dictionary_tracker(
            &batch.schema(),
            &mut tracker,
            &options,
        );
        let (dictionaries, rows) =
            generator.encode(batch, &mut tracker, &options, &mut context).unwrap();
        let all = std::iter::once(first).chain(dictionaries).chain([rows]);
        all.map(FlightData::from).collect()
    }

    fn read(messages: &[FlightData]) -> Result<Vec<RecordBatch>, Problems> {
        let mut rows = AnyRows::default();
        let read: Result<Vec<_>, _> = messages.iter().map(|message| rows.read(message)).collect();
        Ok(read?.into_iter().flatten().collect())
    }

    #[test]
    fn rows_of_any_columns_are_read_dictionaries_too() {
        let all = messages(&batch());
        assert_eq!(all.len(), 3);
        let descriptor = FlightData::default();
        assert_eq!(read(&[&[descriptor], &*all].concat()).unwrap(), [batch()]);
    }

    #[test]
    fn streams_that_are_none_are_refused_with_a_reason() {
        let all = messages(&batch());
        let refusal = |messages: &[FlightData]| read(messages).unwrap_err().to_string();
        assert!(refusal(&all[2..]).ends_with("no schema came first"));
        assert!(refusal(&[&all[..1], &all[..1]].concat()).ends_with("a second schema came"));
        let body = FlightData { data_body: vec![0; 8].into(), ..FlightData::default() };
        assert_eq!(refusal(&[body]), "rows: have a body without a header");
        let mut cut = all.clone();
        cut[2].data_body.truncate(3);
        assert_eq!(refusal(&cut), "rows: have 3 bytes where 384 are announced");
        // Rows of nothing.
        let nothing = RecordBatch::try_from_iter([("n", Arc::new(NullArray::new(1 << 25)) as _)]);
        let nothing = messages(&nothing.unwrap());
        assert_eq!(refusal(&nothing), "rows: come in a batch of 33554432; send at most 16777216");
        let schema = FlightData { data_header: schema_header(&batch().schema()), ..cut[0].clone() };
        assert!(read(&[schema]).unwrap().is_empty());
    }

    proptest! {
        #[test]
        fn damaged_messages_are_refused_or_read(
            which in 0_usize..3,
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
            in_body in any::<bool>(),
        ) {
            let mut all = messages(&batch());
            let part = &mut all[which];
            let mut bytes = if in_body { part.data_body.to_vec() } else { part.data_header.to_vec() };
            let changes = if bytes.is_empty() { Vec::new() } else { changes };
            for (index, byte) in changes {
                let index = index.index(bytes.len());
                bytes[index] = byte;
            }
            if in_body { part.data_body = bytes.into() } else { part.data_header = bytes.into() }
            if let Ok(batches) = read(&all) {
                prop_assert!(batches.iter().all(|batch| batch.num_rows() <= 1 << 24));
            }
        }
    }
}
