//! [`Gguf`]: writes small GGUF files, sound and odd ones.

/// A GGUF file in the making.
#[derive(Clone, Debug)]
pub struct Gguf {
    version: u32,
    alignment: usize,
    keys: Vec<Vec<u8>>,
    tensors: Vec<Vec<u8>>,
    data: Vec<u8>,
}

impl Default for Gguf {
    fn default() -> Self {
        Self { version: 3, alignment: 32, keys: Vec::new(), tensors: Vec::new(), data: Vec::new() }
    }
}

impl Gguf {
    /// Has this version in the header.
    #[must_use]
    pub fn of_version(version: u32) -> Self {
        Self { version, ..Self::default() }
    }

    /// Puts tensors at multiples of `alignment`, which is written if it is not 32.
    #[must_use]
    pub fn aligned(alignment: usize) -> Self {
        Self { alignment, ..Self::default() }
    }

    /// Adds a key with a value of the type `kind`, given in bytes.
    #[must_use]
    pub fn raw(mut self, key: &str, kind: u32, value: &[u8]) -> Self {
        self.keys.push([&text(key)[..], &kind.to_le_bytes(), value].concat());
        self
    }

    /// Adds a key with a text.
    #[must_use]
    pub fn text(self, key: &str, value: &str) -> Self {
        self.raw(key, 8, &text(value))
    }

    /// Adds a key with a whole number of 32 bits.
    #[must_use]
    pub fn number(self, key: &str, value: u32) -> Self {
        self.raw(key, 4, &value.to_le_bytes())
    }

    /// Adds a key with a truth value.
    #[must_use]
    pub fn truth(self, key: &str, value: bool) -> Self {
        self.raw(key, 7, &[value.into()])
    }

    /// Adds a key with a list of texts.
    #[must_use]
    pub fn texts(self, key: &str, values: &[&str]) -> Self {
        let items: Vec<u8> = values.iter().flat_map(|value| text(value)).collect();
        self.raw(key, 9, &[&8u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), &items].concat())
    }

    /// Adds a key with a list of i32.
    #[must_use]
    pub fn numbers(self, key: &str, values: &[i32]) -> Self {
        let items: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.raw(key, 9, &[&5u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), &items].concat())
    }

    /// Adds a key with a list of f32.
    #[must_use]
    pub fn reals(self, key: &str, values: &[f32]) -> Self {
        let items: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.raw(key, 9, &[&6u32.to_le_bytes()[..], &(values.len() as u64).to_le_bytes(), &items].concat())
    }

    /// Adds a tensor of ggml's type `kind` with these bytes. Its shape is written as it is read, the rows' length last.
    #[must_use]
    pub fn tensor(mut self, name: &str, shape: &[usize], kind: u32, bytes: &[u8]) -> Self {
        let offset = self.data.len().next_multiple_of(self.alignment);
        self.data.resize(offset, 0);
        self.data.extend(bytes);
        self.described(name, shape, kind, offset as u64)
    }

    /// Adds the description of a tensor that has no bytes of its own.
    #[must_use]
    pub fn described(mut self, name: &str, shape: &[usize], kind: u32, offset: u64) -> Self {
        let sizes: Vec<u8> = shape.iter().rev().flat_map(|size| (*size as u64).to_le_bytes()).collect();
        let count = (shape.len() as u32).to_le_bytes();
        self.tensors.push([&text(name)[..], &count, &sizes, &kind.to_le_bytes(), &offset.to_le_bytes()].concat());
        self
    }

    /// Adds a tensor of f32 that counts up from 1.
    #[must_use]
    pub fn counting(self, name: &str, shape: &[usize]) -> Self {
        let count: usize = shape.iter().product();
        let bytes: Vec<u8> = (0..count).flat_map(|i| (i as f32 + 1.0).to_le_bytes()).collect();
        self.tensor(name, shape, 0, &bytes)
    }

    /// The file.
    pub fn bytes(mut self) -> Vec<u8> {
        if self.alignment != 32 {
            self = self.clone().number("general.alignment", self.alignment as u32);
        }
        let counts = [self.tensors.len() as u64, self.keys.len() as u64].map(u64::to_le_bytes).concat();
        let mut bytes = [&b"GGUF"[..], &self.version.to_le_bytes(), &counts].concat();
        bytes.extend(self.keys.into_iter().chain(self.tensors).flatten());
        bytes.resize(bytes.len().next_multiple_of(self.alignment), 0);
        bytes.extend(self.data);
        bytes
    }
}

/// A text with its length before it.
pub fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}
