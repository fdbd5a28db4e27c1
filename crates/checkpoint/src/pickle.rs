//! The opcodes of Python's pickle machine that `torch.save` uses. Nothing is executed: calls are kept as data.
//! <https://github.com/python/cpython/blob/v3.11.9/Lib/pickletools.py>
//!
//! Values are stored in one flat list and refer to each other by index. Shared and nested values therefore cost nothing, and
//! dropping them never recurses, whatever the file contains.

use std::collections::HashMap;

/// The index of a [`Value`].
pub(crate) type Id = usize;

/// A Python object.
pub(crate) enum Value {
    Int(i64),
    Text(String),
    /// A class or function, as `module.name`.
    Global(String),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    /// The result of calling `function` with the tuple `args`.
    Call {
        function: Id,
        args: Id,
    },
    /// The description of an object that is stored outside the pickle (a tensor's storage).
    Outside(Id),
    /// A value that no state dict needs (None, booleans, floats).
    Other,
}

/// All values of a pickle, and the index of the result.
pub(crate) struct Pickle {
    values: Vec<Value>,
    root: Id,
}

impl Pickle {
    /// Reads the pickle in `bytes`.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut machine = Machine { bytes, ..Machine::default() };
        while !machine.step()? {}
        let root = machine.pop()?;
        Ok(Self { values: machine.values, root })
    }

    pub(crate) fn root(&self) -> Id {
        self.root
    }

    pub(crate) fn value(&self, id: Id) -> &Value {
        &self.values[id]
    }

    pub(crate) fn text(&self, id: Id) -> Option<&str> {
        if let Value::Text(text) = self.value(id) { Some(text) } else { None }
    }

    pub(crate) fn tuple(&self, id: Id) -> Option<&[Id]> {
        if let Value::Tuple(items) = self.value(id) { Some(items) } else { None }
    }

    pub(crate) fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        if let Value::Dict(items) = self.value(id) { Some(items) } else { None }
    }

    pub(crate) fn size(&self, id: Id) -> Option<usize> {
        if let Value::Int(value) = self.value(id) { usize::try_from(*value).ok() } else { None }
    }

    pub(crate) fn sizes(&self, id: Id) -> Option<Vec<usize>> {
        self.tuple(id)?.iter().map(|id| self.size(*id)).collect()
    }

    /// Returns the function's name and the arguments of a call.
    pub(crate) fn call(&self, id: Id) -> Option<(&str, &[Id])> {
        let Value::Call { function, args } = self.value(id) else { return None };
        let Value::Global(name) = self.value(*function) else { return None };
        Some((name, self.tuple(*args)?))
    }
}

#[derive(Default)]
struct Machine<'a> {
    bytes: &'a [u8],
    values: Vec<Value>,
    stack: Vec<Id>,
    /// The heights of the stack at the open marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Machine<'_> {
    /// Executes one opcode; returns true at the end.
    #[expect(clippy::too_many_lines, reason = "the table of the opcodes")]
    fn step(&mut self) -> Result<bool, String> {
        match self.take(1)?[0] {
            b'.' => return Ok(true),
            0x80 => {
                self.take(1)?;
            }
            b'(' => self.marks.push(self.stack.len()),
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            b'G' => {
                self.take(8)?;
                self.push(Value::Other);
            }
            b'K' => self.push_int(1)?,
            b'M' => self.push_int(2)?,
            b'J' => self.push_int(4)?,
            0x8a => {
                let length = self.number(1)?;
                self.push_int(length as usize)?;
            }
            b'X' => {
                let length = self.number(4)?;
                let text = std::str::from_utf8(self.take(length as usize)?).map_err(|e| e.to_string())?.to_string();
                self.push(Value::Text(text));
            }
            b'c' => {
                let name = format!("{}.{}", self.line()?, self.line()?);
                self.push(Value::Global(name));
            }
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            b']' => self.push(Value::List(Vec::new())),
            b'a' => {
                let item = self.pop()?;
                self.extend_list(&[item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend_list(&items)?;
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.extend_dict(&items)?;
            }
            b'Q' => {
                let description = self.pop()?;
                self.push(Value::Outside(description));
            }
            b'R' | 0x81 => self.call()?,
            // BUILD sets the attributes of an object (an OrderedDict), which hold no tensors of a state dict.
            b'b' => {
                self.pop()?;
            }
            code => return Err(format!("unknown pickle opcode {code:#04x}")),
        }
        Ok(false)
    }

    fn call(&mut self) -> Result<(), String> {
        let (args, function) = (self.pop()?, self.pop()?);
        let is_dict = matches!(&self.values[function], Value::Global(name) if name == "collections.OrderedDict");
        self.push(if is_dict { Value::Dict(Vec::new()) } else { Value::Call { function, args } });
        Ok(())
    }

    fn extend_list(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        let Value::List(list) = &mut self.values[top] else {
            return Err("items are added to a value that is not a list".into());
        };
        list.extend(items);
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        let Value::Dict(dict) = &mut self.values[top] else {
            return Err("items are added to a value that is not a dict".into());
        };
        dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        Ok(())
    }

    fn tuple(&mut self, length: usize) -> Result<(), String> {
        let start = self.stack.len().checked_sub(length).ok_or(EMPTY)?;
        let items = self.stack.split_off(start);
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// Pushes a little-endian integer. Integers of one and two bytes are unsigned, others are signed.
    fn push_int(&mut self, length: usize) -> Result<(), String> {
        if length > 8 {
            return Err(format!("an integer of {length} bytes"));
        }
        let value = self.number(length)?;
        let unused = 64 - 8 * length as u32;
        let signed = if length == 0 { 0 } else { ((value << unused) as i64) >> unused };
        self.push(Value::Int(if length <= 2 { value as i64 } else { signed }));
        Ok(())
    }

    fn remember(&mut self, length: usize) -> Result<(), String> {
        let (key, top) = (self.number(length)?, self.top()?);
        self.memo.insert(key, top);
        Ok(())
    }

    fn recall(&mut self, length: usize) -> Result<(), String> {
        let key = self.number(length)?;
        let id = *self.memo.get(&key).ok_or("an object is used before it is created")?;
        self.stack.push(id);
        Ok(())
    }

    fn top(&self) -> Result<Id, String> {
        self.stack.last().copied().ok_or_else(|| EMPTY.to_string())
    }

    fn pop(&mut self) -> Result<Id, String> {
        self.stack.pop().ok_or_else(|| EMPTY.to_string())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let mark = self.marks.pop().filter(|mark| *mark <= self.stack.len()).ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    fn take(&mut self, length: usize) -> Result<&[u8], String> {
        let (taken, rest) = self.bytes.split_at_checked(length).ok_or("the pickle is cut short")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn number(&mut self, length: usize) -> Result<u64, String> {
        Ok(self.take(length)?.iter().rev().fold(0, |value, byte| (value << 8) | u64::from(*byte)))
    }

    fn line(&mut self) -> Result<String, String> {
        let length = self.bytes.iter().position(|byte| *byte == b'\n').ok_or("the pickle is cut short")?;
        let line = String::from_utf8_lossy(&self.take(length + 1)?[..length]).into_owned();
        Ok(line)
    }
}

const EMPTY: &str = "the stack is empty";
