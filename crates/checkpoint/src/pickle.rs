//! Python's pickle machine, protocols 2 to 5, as far as a state dict needs it. Nothing is executed: calls are kept as data.
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
    /// A value that no state dict needs (None, booleans, floats, bytes, sets).
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
    fn step(&mut self) -> Result<bool, String> {
        let code = self.take(1)?[0];
        match code {
            b'.' => return Ok(true),
            0x80 => drop(self.take(1)?),
            // The length of what follows.
            0x95 => drop(self.take(8)?),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.stack.push(self.top()?),
            b'q' => self.remember(1)?,
            b'r' => self.remember(4)?,
            0x94 => {
                let (key, top) = (self.memo.len() as u64, self.top()?);
                self.memo.insert(key, top);
            }
            b'h' => self.recall(1)?,
            b'j' => self.recall(4)?,
            b')' | 0x85..=0x87 | b't' | b']' | b'a' | b'e' | b'l' | b'}' | b's' | b'u' | b'd' | 0x8f..=0x91 => {
                self.collect(code)?;
            }
            b'c' | 0x93 | b'Q' | b'R' | 0x81 | 0x92 | b'o' | b'b' => self.build(code)?,
            0x97 | 0x98 => return Err("its data lie outside the pickle".to_string()),
            _ => self.literal(code)?,
        }
        Ok(false)
    }

    /// Executes an opcode that pushes a number, a text or bytes.
    fn literal(&mut self, code: u8) -> Result<(), String> {
        match code {
            b'N' | 0x88 | 0x89 => self.push(Value::Other),
            b'G' => self.skip(8)?,
            b'K' => self.push_int(1)?,
            b'M' => self.push_int(2)?,
            b'J' => self.push_int(4)?,
            0x8a | 0x8b => {
                let length = self.number(if code == 0x8a { 1 } else { 4 })? as usize;
                if length <= 8 { self.push_int(length)? } else { self.skip(length)? }
            }
            b'X' | 0x8c | 0x8d | b'U' | b'T' => {
                let length = self.number(match code {
                    0x8c | b'U' => 1,
                    0x8d => 8,
                    _ => 4,
                })?;
                let bytes = self.take(usize::try_from(length).unwrap_or(usize::MAX))?;
                let text = std::str::from_utf8(bytes).map_err(|e| e.to_string())?.to_string();
                self.push(Value::Text(text));
            }
            b'C' | b'B' | 0x8e | 0x96 => {
                let length = self.number(match code {
                    b'C' => 1,
                    b'B' => 4,
                    _ => 8,
                })?;
                self.skip(usize::try_from(length).unwrap_or(usize::MAX))?;
            }
            code => return Err(format!("unknown pickle opcode {code:#04x}")),
        }
        Ok(())
    }

    /// Executes an opcode that makes or fills a collection.
    fn collect(&mut self, code: u8) -> Result<(), String> {
        match code {
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85..=0x87 => self.tuple(usize::from(code - 0x84))?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            b']' => self.push(Value::List(Vec::new())),
            b'l' => {
                let items = self.pop_to_mark()?;
                self.push(Value::List(items));
            }
            b'a' => {
                let item = self.pop()?;
                self.extend_list(&[item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.extend_list(&items)?;
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b'd' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Dict(Vec::new()));
                self.extend_dict(&items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend_dict(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.extend_dict(&items)?;
            }
            // A set, empty; items of one; one with its items.
            0x8f => self.push(Value::Other),
            0x90 => drop(self.pop_to_mark()?),
            _ => {
                self.pop_to_mark()?;
                self.push(Value::Other);
            }
        }
        Ok(())
    }

    /// Executes an opcode that names a class or function, or makes an object.
    fn build(&mut self, code: u8) -> Result<(), String> {
        match code {
            b'c' => {
                let name = format!("{}.{}", self.line()?, self.line()?);
                self.push(Value::Global(name));
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let (Value::Text(name), Value::Text(module)) = (&self.values[name], &self.values[module]) else {
                    return Err("a function's name is not text".to_string());
                };
                // One text may be named again and again.
                if name.len() + module.len() > LONGEST_NAME {
                    return Err(format!("a function's name has {} bytes", name.len() + module.len()));
                }
                let name = format!("{module}.{name}");
                self.push(Value::Global(name));
            }
            b'Q' => {
                let description = self.pop()?;
                self.push(Value::Outside(description));
            }
            // Arguments by name, which no tensor is made with.
            0x92 => {
                self.pop()?;
                self.call()?;
            }
            b'o' => {
                let mut items = self.pop_to_mark()?.into_iter();
                let function = items.next().ok_or(EMPTY)?;
                self.stack.push(function);
                self.push(Value::Tuple(items.collect()));
                self.call()?;
            }
            // BUILD sets the attributes of an object (an OrderedDict), which hold no tensors of a state dict.
            b'b' => drop(self.pop()?),
            _ => self.call()?,
        }
        Ok(())
    }

    fn call(&mut self) -> Result<(), String> {
        let (args, function) = (self.pop()?, self.pop()?);
        let is_dict = matches!(&self.values[function], Value::Global(name) if name == "collections.OrderedDict");
        self.push(if is_dict { Value::Dict(Vec::new()) } else { Value::Call { function, args } });
        Ok(())
    }

    fn extend_list(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::List(list) => list.extend(items),
            // An object with items of its own, such as a queue.
            Value::Call { .. } => {}
            _ => return Err("items are added to a value that is not a list".into()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<(), String> {
        let top = self.top()?;
        match &mut self.values[top] {
            Value::Dict(dict) => dict.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1]))),
            // An object with items of its own, such as a configuration.
            Value::Call { .. } => {}
            _ => return Err("items are added to a value that is not a dict".into()),
        }
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

    /// Goes on by `length` bytes, which are a value that no state dict needs.
    fn skip(&mut self, length: usize) -> Result<(), String> {
        self.take(length)?;
        self.push(Value::Other);
        Ok(())
    }

    /// Pushes a little-endian integer of at most 8 bytes. Integers of one and two bytes are unsigned, others are signed.
    fn push_int(&mut self, length: usize) -> Result<(), String> {
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

/// The longest name of a class or function that two texts are put together to, in bytes.
const LONGEST_NAME: usize = 1024;
const EMPTY: &str = "the stack is empty";
