//! `GorillaFileSystem`: a tree of directories and text files with Unix-like commands.
//!
//! The original's commands share Python objects: a moved directory is a new directory over the same contents, a copy
//! shares everything below its first level, and a directory can come to contain itself (`cp('a', 'a')`). Values cannot
//! show that, so the tree lives in an arena of three kinds of objects, each with its own id: directories, the dicts of
//! their contents, and files.

use std::any::Any;
use std::sync::Arc;

use indexmap::IndexMap;
use rustc_hash::{FxBuildHasher, FxHashMap, FxHashSet};

use super::{ApiClass, BfclContext, LongContext};
use crate::python::call::{method, optional, required};
use crate::python::{Default, Dict, Exception, ExceptionKind, Result, Signature, Value, ops, strings, text};

static SIGNATURES: [Signature; 18] = [
    method("pwd", &[]),
    method("ls", &[optional("a", Default::Bool(false))]),
    method("cd", &[required("folder")]),
    method("mkdir", &[required("dir_name")]),
    method("touch", &[required("file_name")]),
    method("echo", &[required("content"), optional("file_name", Default::None)]),
    method("cat", &[required("file_name")]),
    method("find", &[optional("path", Default::Str(".")), optional("name", Default::None)]),
    method("wc", &[required("file_name"), optional("mode", Default::Str("l"))]),
    method("sort", &[required("file_name")]),
    method("grep", &[required("file_name"), required("pattern")]),
    method("du", &[optional("human_readable", Default::Bool(false))]),
    method("tail", &[required("file_name"), optional("lines", Default::Int(10))]),
    method("diff", &[required("file_name1"), required("file_name2")]),
    method("mv", &[required("source"), required("destination")]),
    method("rm", &[required("file_name")]),
    method("rmdir", &[required("dir_name")]),
    method("cp", &[required("source"), required("destination")]),
];

/// Characters that no new name may have.
const FORBIDDEN_CHARACTERS: [&str; 10] = ["|", "/", "\\", "?", "%", "*", ":", "\"", ">", "<"];

/// Nested directories that `find` goes through before CPython's stack of 1000 frames is full. The original's limit is a
/// few levels off, as it depends on the frames of its caller.
const FIND_MAX_DEPTH: usize = 980;

/// As [`FIND_MAX_DEPTH`] for `du`, which needs two frames a level.
const DU_MAX_DEPTH: usize = 490;

/// Bytes of paths that `find` goes through before it gives up: directories that share contents can stand for a tree of
/// any size, through which the original would go for hours.
const FIND_MAX_BYTES: usize = 1 << 26;

/// How deep, and with how many entries, [`ApiClass::state`] shows the tree.
const SHOWN_MAX_DEPTH: usize = 64;
const SHOWN_MAX_ENTRIES: usize = 1 << 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct DirectoryId(usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct ContentsId(usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileId(usize);

#[derive(Clone, Copy, Debug)]
enum Item {
    File(FileId),
    Directory(DirectoryId),
}

/// What a directory holds by name, in order. A name is whatever Python takes for a key: usually a `str`.
type Contents = IndexMap<Value, Item, FxBuildHasher>;

#[derive(Clone, Debug)]
struct Directory {
    /// The key under which the directory was made; only the root's is not a key too.
    name: Value,
    /// Where it was made, which is not always where it is.
    parent: Option<DirectoryId>,
    contents: ContentsId,
}

/// All objects ever made. None is freed: what was removed may still be the current directory or its parent.
#[derive(Clone, Debug, std::default::Default)]
struct Arena {
    directories: Vec<Directory>,
    contents: Vec<Arc<Contents>>,
    /// The files' contents. A file's name is always its key.
    files: Vec<Value>,
}

impl Arena {
    fn contents_of(&self, directory: DirectoryId) -> &Contents {
        &self.contents[self.directories[directory.0].contents.0]
    }

    fn contents_mut(&mut self, directory: DirectoryId) -> &mut Contents {
        let id = self.directories[directory.0].contents;
        Arc::make_mut(&mut self.contents[id.0])
    }

    fn new_directory(&mut self, name: Value, parent: Option<DirectoryId>) -> DirectoryId {
        let contents = self.new_contents(Arc::default());
        self.directories.push(Directory { name, parent, contents });
        DirectoryId(self.directories.len() - 1)
    }

    fn new_contents(&mut self, contents: Arc<Contents>) -> ContentsId {
        self.contents.push(contents);
        ContentsId(self.contents.len() - 1)
    }

    fn new_file(&mut self, content: Value) -> FileId {
        self.files.push(content);
        FileId(self.files.len() - 1)
    }

    fn add_file(&mut self, directory: DirectoryId, name: &Value, content: Value) -> Result<()> {
        self.check_absent(directory, "File", name)?;
        let file = self.new_file(content);
        self.contents_mut(directory).insert(name.clone(), Item::File(file));
        Ok(())
    }

    fn add_directory(&mut self, directory: DirectoryId, name: &Value) -> Result<DirectoryId> {
        self.check_absent(directory, "Directory", name)?;
        let added = self.new_directory(name.clone(), Some(directory));
        self.contents_mut(directory).insert(name.clone(), Item::Directory(added));
        Ok(added)
    }

    fn check_absent(&self, directory: DirectoryId, kind: &str, name: &Value) -> Result<()> {
        if !self.contents_of(directory).contains_key(name) {
            return Ok(());
        }
        Err(Exception::value_error(format!(
            "{kind} '{}' already exists in directory '{}'.",
            text::str(name),
            text::str(&self.directories[directory.0].name)
        )))
    }

    /// Fills a directory from its part of a scenario.
    fn load(&mut self, directory: DirectoryId, scenario: &Value, long_context: Option<&LongContext>) -> Result<()> {
        let mut is_bottommost = true;
        for (name, data) in ops::dict_for(scenario, "items")?.iter() {
            match ops::get_key(data, "type")?.as_str() {
                Some("directory") => {
                    is_bottommost = false;
                    let new = self.new_directory(name.clone(), Some(directory));
                    self.load(new, &ops::get_key(data, "contents")?, long_context)?;
                    self.contents_mut(directory).insert(name.clone(), Item::Directory(new));
                }
                Some("file") => {
                    let mut content = ops::get_key(data, "content")?;
                    if let Some(long_context) = long_context
                        && !ops::contains(long_context.constant("FILES_TAIL_USED"), name)?
                    {
                        ops::add_assign(&mut content, long_context.constant("FILE_CONTENT_EXTENSION"))?;
                    }
                    let file = self.new_file(content);
                    self.contents_mut(directory).insert(name.clone(), Item::File(file));
                }
                _ => {}
            }
        }
        if let Some(long_context) = long_context.filter(|_| is_bottommost) {
            let empty = Value::str("");
            for name in ops::iterate(long_context.constant("POPULATE_FILE_EXTENSION"))? {
                let name = if name.as_str().is_some() { name } else { Value::str(text::str(&name)) };
                self.add_file(directory, &name, empty.clone())?;
            }
        }
        Ok(())
    }

    /// The size of everything below, counted once for each way that leads to it.
    fn disk_usage(&self, root: ContentsId) -> Result<u64> {
        struct Level {
            contents: ContentsId,
            next: usize,
            size: u64,
            /// Levels below this one.
            height: usize,
        }
        let level = |contents| Level { contents, next: 0, size: 0, height: 0 };
        let mut levels = vec![level(root)];
        let mut open = FxHashSet::from_iter([root]);
        let mut known: FxHashMap<ContentsId, (u64, usize)> = FxHashMap::default();
        loop {
            let depth = levels.len();
            let top = levels.last_mut().expect("the root's level returns");
            let Some((_, item)) = self.contents[top.contents.0].get_index(top.next) else {
                let Level { contents, size, height, .. } = *top;
                open.remove(&contents);
                known.insert(contents, (size, height));
                levels.pop();
                match levels.last_mut() {
                    Some(above) => {
                        above.size = above.size.saturating_add(size);
                        above.height = above.height.max(height + 1);
                    }
                    None => return Ok(size),
                }
                continue;
            };
            top.next += 1;
            match item {
                Item::File(file) => {
                    let bytes = ops::text_for(&self.files[file.0], "encode")?.len();
                    top.size = top.size.saturating_add(bytes as u64);
                }
                Item::Directory(directory) => {
                    let contents = self.directories[directory.0].contents;
                    let (size, height) = known.get(&contents).copied().unwrap_or_default();
                    // Contents inside themselves have no bottom.
                    if depth + height >= DU_MAX_DEPTH || open.contains(&contents) {
                        return Err(recursion_error());
                    }
                    if known.contains_key(&contents) {
                        top.size = top.size.saturating_add(size);
                        top.height = top.height.max(height + 1);
                    } else {
                        open.insert(contents);
                        levels.push(level(contents));
                    }
                }
            }
        }
    }

    /// The paths of everything below whose name matches, in order.
    fn search(&self, root: ContentsId, base_path: &str, wanted: &Value) -> Result<Vec<Value>> {
        let mut matches = Vec::new();
        let mut bytes = 0;
        let mut levels = vec![(root, 0, base_path.to_owned())];
        while let Some((contents, next, base_path)) = levels.last_mut() {
            let Some((name, item)) = self.contents[contents.0].get_index(*next) else {
                levels.pop();
                continue;
            };
            *next += 1;
            let path = format!("{base_path}/{}", text::str(name));
            bytes += path.len();
            if bytes > FIND_MAX_BYTES {
                // A MemoryError, whose text is empty.
                return Err(Exception::new(ExceptionKind::Other, ""));
            }
            if wanted.is_none() || ops::contains(name, wanted)? {
                matches.push(Value::str(&path));
            }
            if let Item::Directory(directory) = item {
                let contents = self.directories[directory.0].contents;
                // Contents inside themselves have no bottom.
                if levels.len() >= FIND_MAX_DEPTH || levels.iter().any(|(open, ..)| *open == contents) {
                    return Err(recursion_error());
                }
                levels.push((contents, 0, path));
            }
        }
        Ok(matches)
    }

    /// Contents in the shape of a scenario. What has no bottom, or would be too much to show, is cut off with "…".
    fn shown(&self, contents: ContentsId, open: &mut Vec<ContentsId>, entries_left: &mut usize) -> Value {
        let entries = &self.contents[contents.0];
        if open.contains(&contents) || open.len() >= SHOWN_MAX_DEPTH || *entries_left < entries.len() {
            return Value::str("…");
        }
        *entries_left -= entries.len();
        open.push(contents);
        let shown = entries.iter().map(|(name, item)| {
            let item = match item {
                Item::File(file) => Value::dict([("type", "file".into()), ("content", self.files[file.0].clone())]),
                Item::Directory(directory) => {
                    let below = self.shown(self.directories[directory.0].contents, open, entries_left);
                    Value::dict([("type", "directory".into()), ("contents", below)])
                }
            };
            (name.clone(), item)
        });
        let shown = Value::Dict(Arc::new(shown.collect()));
        open.pop();
        shown
    }
}

/// The file system. Copies share the tree until one of them changes it.
#[derive(Clone, Debug)]
pub struct GorillaFileSystem {
    arena: Arc<Arena>,
    root: DirectoryId,
    current: DirectoryId,
    long_context: bool,
}

impl GorillaFileSystem {
    /// An instance in the scenario's state. Only the first of the scenario's roots is loaded; without one, the root is
    /// empty and its name is `/`.
    pub fn create(scenario: &Dict, context: &BfclContext) -> Result<Box<dyn ApiClass>> {
        let long_context = context.long_context.as_deref();
        let mut arena = Arena::default();
        let root = match scenario.get("root") {
            Some(roots) => {
                let (name, data) = ops::dict_for(roots, "keys")?
                    .iter()
                    .next()
                    .ok_or_else(|| Exception::new(ExceptionKind::Index, "list index out of range"))?;
                let root = arena.new_directory(name.clone(), None);
                arena.load(root, &ops::get_key(data, "contents")?, long_context)?;
                root
            }
            None => arena.new_directory("/".into(), None),
        };
        Ok(Box::new(Self { arena: Arc::new(arena), root, current: root, long_context: long_context.is_some() }))
    }

    fn here(&self) -> &Contents {
        self.arena.contents_of(self.current)
    }

    fn arena_mut(&mut self) -> &mut Arena {
        Arc::make_mut(&mut self.arena)
    }

    /// `name in self._current_dir.contents`
    fn is_here(&self, name: &Value) -> Result<bool> {
        name.check_hashable()?;
        Ok(self.here().contains_key(name))
    }

    /// `directory._get_item(name)`, in which `.` is the directory itself.
    fn item_in(&self, directory: DirectoryId, name: &Value) -> Option<Item> {
        if name.as_str() == Some(".") {
            return Some(Item::Directory(directory));
        }
        self.arena.contents_of(directory).get(name).copied()
    }

    /// The content of a file in the current directory, if the name is that of a file.
    fn content(&self, name: &Value) -> Result<Option<&Value>> {
        if !self.is_here(name)? {
            return Ok(None);
        }
        Ok(match self.item_in(self.current, name) {
            Some(Item::File(file)) => Some(&self.arena.files[file.0]),
            _ => None,
        })
    }

    /// Goes to a directory from the current one, or answers with `cd`'s refusal.
    fn navigate(&self, path: &Value) -> Result<std::result::Result<DirectoryId, String>> {
        if path.is_none() || path.as_str() == Some(".") {
            return Ok(Ok(self.current));
        }
        let path = ops::text_for(path, "strip")?;
        if path == "/" {
            return Ok(Ok(self.root));
        }
        let mut reached = if path.starts_with('/') { self.root } else { self.current };
        for name in path.trim_matches('/').split('/') {
            match self.item_in(reached, &Value::str(name)) {
                Some(Item::Directory(directory)) => reached = directory,
                _ => return Ok(Err(format!(": '{path}': No such file or directory"))),
            }
        }
        Ok(Ok(reached))
    }

    fn pwd(&self) -> Result<Value> {
        let mut names = Vec::new();
        let mut next = Some(self.current);
        while let Some(directory) = next {
            let directory = &self.arena.directories[directory.0];
            names.push(&directory.name);
            next = directory.parent;
        }
        names.reverse();
        let names = names.into_iter().enumerate().map(|(index, name)| {
            let refusal = || format!("sequence item {index}: expected str instance, {} found", name.type_name());
            name.as_str().ok_or_else(|| Exception::type_error(refusal()))
        });
        let path = format!("/{}", names.collect::<Result<Vec<_>>>()?.join("/"));
        Ok(Value::dict([("current_working_directory", path.into())]))
    }

    fn ls(&self, all: &Value) -> Result<Value> {
        let mut names = Vec::new();
        for name in self.here().keys() {
            if all.truthy() || !ops::text_for(name, "startswith")?.starts_with('.') {
                names.push(name.clone());
            }
        }
        Ok(Value::dict([("current_directory_content", Value::list(names))]))
    }

    fn cd(&mut self, folder: &Value) -> Result<Value> {
        let folder = match ops::text_for(folder, "rstrip")?.trim_end_matches('/') {
            "" => "/",
            folder => folder,
        };
        if folder != "/" && folder.contains('/') {
            let message = "Unsupported path. Only one folder level at a time is supported.";
            return Ok(Value::error(format!("cd: {folder}: {message}")));
        }
        if folder == ".." {
            let Some(parent) = self.arena.directories[self.current.0].parent else {
                return Ok(Value::error("Current directory is already the root. Cannot go back."));
            };
            self.current = parent;
            return Ok(Value::Dict(Arc::default()));
        }
        match self.navigate(&Value::str(folder))? {
            Ok(directory) => {
                self.current = directory;
                let name = self.arena.directories[directory.0].name.clone();
                Ok(Value::dict([("current_working_directory", name)]))
            }
            Err(refusal) => Ok(Value::error(format!("cd{refusal}"))),
        }
    }

    fn mkdir(&mut self, name: &Value) -> Result<Value> {
        let shown = text::str(name);
        if !is_valid_name(name)? {
            return Ok(Value::error(format!("mkdir: cannot create directory '{shown}': Invalid character")));
        }
        if self.is_here(name)? {
            return Ok(Value::error(format!("mkdir: cannot create directory '{shown}': File exists")));
        }
        let current = self.current;
        self.arena_mut().add_directory(current, name)?;
        Ok(Value::None)
    }

    fn touch(&mut self, name: &Value) -> Result<Value> {
        let shown = text::str(name);
        if !is_valid_name(name)? {
            return Ok(Value::error(format!("touch: cannot touch '{shown}': Invalid character")));
        }
        if self.is_here(name)? {
            return Ok(Value::error(format!("touch: cannot touch '{shown}': File exists")));
        }
        let current = self.current;
        self.arena_mut().add_file(current, name, Value::str(""))?;
        Ok(Value::None)
    }

    fn echo(&mut self, content: &Value, name: &Value) -> Result<Value> {
        let terminal_output = || Value::dict([("terminal_output", content.clone())]);
        if name.is_none() {
            return Ok(terminal_output());
        }
        let shown = text::str(name);
        if !is_valid_name(name)? {
            return Ok(Value::error(format!("echo: cannot write to '{shown}': Invalid character")));
        }
        if !name.truthy() {
            return Ok(terminal_output());
        }
        if !self.is_here(name)? {
            return Ok(Value::error(format!("echo: cannot write to '{shown}': No such file")));
        }
        match self.item_in(self.current, name) {
            Some(Item::File(file)) => {
                self.arena_mut().files[file.0] = content.clone();
                Ok(Value::None)
            }
            _ => {
                let message = "'Directory' object has no attribute '_write'";
                Err(Exception::new(ExceptionKind::Attribute, message))
            }
        }
    }

    fn cat(&self, name: &Value) -> Result<Value> {
        let shown = text::str(name);
        if !is_valid_name(name)? {
            return Ok(Value::error(format!("cat: '{shown}': Invalid character")));
        }
        if !self.is_here(name)? {
            return Ok(Value::error(format!("cat: '{shown}': No such file or directory")));
        }
        Ok(match self.content(name)? {
            Some(content) => Value::dict([("file_content", content.clone())]),
            None => Value::error(format!("cat: '{shown}': Is a directory")),
        })
    }

    fn find(&self, path: &Value, name: &Value) -> Result<Value> {
        let directory = match self.navigate(path)? {
            Ok(directory) => directory,
            Err(refusal) => return Ok(Value::error(format!("find{refusal}"))),
        };
        let base_path = ops::text_for(path, "rstrip")?.trim_end_matches('/');
        let contents = self.arena.directories[directory.0].contents;
        Ok(Value::dict([("matches", Value::list(self.arena.search(contents, base_path, name)?))]))
    }

    fn wc(&self, name: &Value, mode: &Value) -> Result<Value> {
        let mode = match mode.as_str() {
            Some(mode @ ("l" | "w" | "c")) => mode,
            _ => return Ok(Value::error(format!("wc: invalid mode '{}'", text::str(mode)))),
        };
        let Some(content) = self.content(name)? else {
            return Ok(Value::error(format!("wc: {}: No such file or directory", text::str(name))));
        };
        let (count, unit) = match mode {
            "l" => (strings::splitlines(ops::text_for(content, "splitlines")?).len(), "lines"),
            "w" => (strings::split(ops::text_for(content, "split")?).count(), "words"),
            _ => (ops::len(content)?, "characters"),
        };
        Ok(Value::dict([("count", Value::int(count)), ("type", unit.into())]))
    }

    fn sort(&self, name: &Value) -> Result<Value> {
        let Some(content) = self.content(name)? else {
            return Ok(Value::error(format!("sort: {}: No such file or directory", text::str(name))));
        };
        let mut lines = strings::splitlines(ops::text_for(content, "splitlines")?);
        // The order of UTF-8 is the order of code points.
        lines.sort_unstable();
        Ok(Value::dict([("sorted_content", lines.join("\n").into())]))
    }

    fn grep(&self, name: &Value, pattern: &Value) -> Result<Value> {
        let Some(content) = self.content(name)? else {
            return Ok(Value::error(format!("grep: {}: No such file or directory", text::str(name))));
        };
        let mut matching = Vec::new();
        for line in strings::splitlines(ops::text_for(content, "splitlines")?) {
            let line = Value::str(line);
            if ops::contains(&line, pattern)? {
                matching.push(line);
            }
        }
        Ok(Value::dict([("matching_lines", Value::list(matching))]))
    }

    fn du(&self, human_readable: &Value) -> Result<Value> {
        let size = self.arena.disk_usage(self.arena.directories[self.current.0].contents)?;
        let shown = if human_readable.truthy() { human_size(size) } else { format!("{size} bytes") };
        Ok(Value::dict([("disk_usage", shown.into())]))
    }

    fn tail(&self, name: &Value, count: &Value) -> Result<Value> {
        let Some(content) = self.content(name)? else {
            return Ok(Value::error(format!("tail: {}: No such file or directory", text::str(name))));
        };
        let lines = strings::splitlines(ops::text_for(content, "splitlines")?);
        let last_lines = if ops::gt(count, &Value::int(lines.len()))? {
            &lines[..]
        } else {
            let Some(count) = count.to_int() else {
                return Err(Exception::type_error(
                    "slice indices must be integers or None or have an __index__ method",
                ));
            };
            // `lines[-count:]`: zero takes all, and a negative count leaves out that many at the start.
            let start = match usize::try_from(&count) {
                Ok(0) => 0,
                Ok(count) => lines.len() - count,
                Err(_) => usize::try_from(-count).map_or(lines.len(), |count| count.min(lines.len())),
            };
            &lines[start..]
        };
        Ok(Value::dict([("last_lines", last_lines.join("\n").into())]))
    }

    fn diff(&self, name1: &Value, name2: &Value) -> Result<Value> {
        if self.is_here(name1)?
            && self.is_here(name2)?
            && let Some(content1) = self.content(name1)?
            && let Some(content2) = self.content(name2)?
        {
            let lines1 = strings::splitlines(ops::text_for(content1, "splitlines")?);
            let lines2 = strings::splitlines(ops::text_for(content2, "splitlines")?);
            let different = lines1.iter().zip(&lines2).filter(|(line1, line2)| line1 != line2);
            let shown: Vec<_> = different.map(|(line1, line2)| format!("- {line1}\n+ {line2}")).collect();
            return Ok(Value::dict([("diff_lines", shown.join("\n").into())]));
        }
        let (shown1, shown2) = (text::str(name1), text::str(name2));
        Ok(Value::error(format!("diff: {shown1} or {shown2}: No such file or directory")))
    }

    /// `mv` and `cp`, which differ in a few places.
    fn transfer(&mut self, kind: Transfer, source: &Value, destination: &Value) -> Result<Value> {
        let (command, verb, past) = match kind {
            Transfer::Move => ("mv", "move", "moved"),
            Transfer::Copy => ("cp", "copy", "copied"),
        };
        let (from, to) = (text::str(source), text::str(destination));
        let refuse = |reason: &str| Ok(Value::error(format!("{command}: cannot {verb} {reason}")));
        let found = if self.is_here(source)? { self.item_in(self.current, source) } else { None };
        let Some(item) = found else {
            return refuse(&format!("'{from}': No such file or directory"));
        };
        if ops::contains(destination, &Value::str("/"))? {
            let message = "path not allowed in destination. Provide only a file or directory name.";
            return Ok(Value::error(format!("{command}: {message}")));
        }
        let current = self.current;
        let (target, name, shown) = if self.is_here(destination)? {
            let Some(Item::Directory(target)) = self.item_in(current, destination) else {
                return refuse(&format!("'{from}' to '{to}': Not a directory"));
            };
            // The copying command looks for the wrong name, so that a copy over something fails below, as a ValueError.
            let taken = match kind {
                Transfer::Move => from.clone(),
                Transfer::Copy => format!("{to}/{from}"),
            };
            if self.arena.contents_of(target).contains_key(taken.as_str()) {
                return refuse(&format!("'{from}' to '{to}/{from}': File exists"));
            }
            (target, source, format!("{to}/{from}"))
        } else {
            (current, destination, to)
        };
        let arena = self.arena_mut();
        if kind == Transfer::Move {
            arena.contents_mut(current).shift_remove(source);
        }
        match item {
            Item::File(file) => {
                let content = arena.files[file.0].clone();
                arena.add_file(target, name, content)?;
            }
            Item::Directory(directory) => {
                let added = arena.add_directory(target, name)?;
                let contents = arena.directories[directory.0].contents;
                // Copied only now, so that a directory copied into itself contains the copy.
                arena.directories[added.0].contents = match kind {
                    Transfer::Move => contents,
                    Transfer::Copy => {
                        let copy = arena.contents[contents.0].clone();
                        arena.new_contents(copy)
                    }
                };
            }
        }
        Ok(Value::dict([("result", Value::str(format!("'{from}' {past} to '{shown}'")))]))
    }

    fn rm(&mut self, name: &Value) -> Result<Value> {
        let shown = text::str(name);
        if !self.is_here(name)? {
            return Ok(Value::error(format!("rm: cannot remove '{shown}': No such file or directory")));
        }
        Ok(self.remove(name))
    }

    fn rmdir(&mut self, name: &Value) -> Result<Value> {
        let shown = text::str(name);
        let refuse = |reason: &str| Ok(Value::error(format!("rmdir: cannot remove '{shown}': {reason}")));
        if !self.is_here(name)? {
            return refuse("No such file or directory");
        }
        match self.item_in(self.current, name) {
            Some(Item::Directory(directory)) if self.arena.contents_of(directory).is_empty() => Ok(self.remove(name)),
            Some(Item::Directory(_)) => refuse("Directory not empty"),
            _ => refuse("Not a directory"),
        }
    }

    fn remove(&mut self, name: &Value) -> Value {
        let current = self.current;
        self.arena_mut().contents_mut(current).shift_remove(name);
        Value::dict([("result", format!("'{}' removed", text::str(name)).into())])
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Transfer {
    Move,
    Copy,
}

/// Whether a new name has no forbidden character; a list or tuple has one if the character is an item of it.
fn is_valid_name(name: &Value) -> Result<bool> {
    for character in FORBIDDEN_CHARACTERS {
        if ops::contains(name, &Value::str(character))? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn recursion_error() -> Exception {
    let message = "maximum recursion depth exceeded while calling a Python object";
    Exception::new(ExceptionKind::Recursion, message)
}

fn human_size(bytes: u64) -> String {
    let mut size = bytes as f64;
    for unit in ["B", "KB", "MB", "GB", "TB"] {
        if size < 1024.0 {
            return format!("{size:.2} {unit}");
        }
        size /= 1024.0;
    }
    format!("{size:.2} PB")
}

/// Whether the original's `==` between two directories holds. Where directories contain themselves the original raises
/// a RecursionError; here they are equal when no path leads to a difference.
fn same_tree(arena1: &Arena, root1: DirectoryId, arena2: &Arena, root2: DirectoryId) -> bool {
    let (directory1, directory2) = (&arena1.directories[root1.0], &arena2.directories[root2.0]);
    if directory1.name != directory2.name {
        return false;
    }
    // Each pair is looked at once: it is taken to be equal unless something in the whole tree differs.
    let mut pairs = vec![(directory1.contents, directory2.contents)];
    let mut seen = FxHashSet::from_iter(pairs.iter().copied());
    while let Some((contents1, contents2)) = pairs.pop() {
        let (contents1, contents2) = (&arena1.contents[contents1.0], &arena2.contents[contents2.0]);
        if contents1.len() != contents2.len() {
            return false;
        }
        for (index, (name, item1)) in contents1.iter().enumerate() {
            // Mostly the order is the same, and then no name needs to be hashed.
            let same_place = contents2.get_index(index).filter(|(name2, _)| *name2 == name).map(|(_, item)| item);
            match (item1, same_place.or_else(|| contents2.get(name))) {
                (Item::File(file1), Some(Item::File(file2))) => {
                    if arena1.files[file1.0] != arena2.files[file2.0] {
                        return false;
                    }
                }
                (Item::Directory(directory1), Some(Item::Directory(directory2))) => {
                    let pair = (arena1.directories[directory1.0].contents, arena2.directories[directory2.0].contents);
                    if seen.insert(pair) {
                        pairs.push(pair);
                    }
                }
                _ => return false,
            }
        }
    }
    true
}

impl ApiClass for GorillaFileSystem {
    fn class_name(&self) -> &'static str {
        "GorillaFileSystem"
    }

    fn signatures(&self) -> &'static [Signature] {
        &SIGNATURES
    }

    fn invoke(&mut self, method: &str, arguments: &[Value]) -> Result<Value> {
        match (method, arguments) {
            ("pwd", []) => self.pwd(),
            ("ls", [all]) => self.ls(all),
            ("cd", [folder]) => self.cd(folder),
            ("mkdir", [name]) => self.mkdir(name),
            ("touch", [name]) => self.touch(name),
            ("echo", [content, name]) => self.echo(content, name),
            ("cat", [name]) => self.cat(name),
            ("find", [path, name]) => self.find(path, name),
            ("wc", [name, mode]) => self.wc(name, mode),
            ("sort", [name]) => self.sort(name),
            ("grep", [name, pattern]) => self.grep(name, pattern),
            ("du", [human_readable]) => self.du(human_readable),
            ("tail", [name, lines]) => self.tail(name, lines),
            ("diff", [name1, name2]) => self.diff(name1, name2),
            ("mv", [source, destination]) => self.transfer(Transfer::Move, source, destination),
            ("rm", [name]) => self.rm(name),
            ("rmdir", [name]) => self.rmdir(name),
            ("cp", [source, destination]) => self.transfer(Transfer::Copy, source, destination),
            _ => unreachable!("GorillaFileSystem.{method} was called with {} arguments", arguments.len()),
        }
    }

    /// The tree in the shape of a scenario, for showing: [`GorillaFileSystem::same_state`] compares the tree itself.
    fn attributes(&self) -> Vec<(&'static str, Value)> {
        let root = &self.arena.directories[self.root.0];
        let mut entries_left = SHOWN_MAX_ENTRIES;
        let contents = self.arena.shown(root.contents, &mut Vec::new(), &mut entries_left);
        let shown = Value::dict([("type", "directory".into()), ("contents", contents)]);
        vec![
            ("root", Value::Dict(Arc::new(Dict::from_iter([(root.name.clone(), shown)])))),
            ("long_context", self.long_context.into()),
        ]
    }

    fn same_state(&self, other: &dyn ApiClass) -> bool {
        let other: &dyn Any = other;
        let Some(other) = other.downcast_ref::<Self>() else {
            return false;
        };
        let shared = Arc::ptr_eq(&self.arena, &other.arena) && self.root == other.root;
        self.long_context == other.long_context
            && (shared || same_tree(&self.arena, self.root, &other.arena, other.root))
    }

    fn boxed_clone(&self) -> Box<dyn ApiClass> {
        Box::new(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_context(scenario: serde_json::Value, context: &BfclContext) -> Result<Box<dyn ApiClass>> {
        GorillaFileSystem::create(Value::from_json(&scenario).as_dict().unwrap(), context)
    }

    fn with_root(contents: serde_json::Value) -> Box<dyn ApiClass> {
        let root = serde_json::json!({"root": {"home": {"type": "directory", "contents": contents}}});
        with_context(root, &BfclContext::default()).unwrap()
    }

    fn answer(files: &mut dyn ApiClass, method: &str, arguments: &[Value]) -> String {
        match files.invoke(method, arguments) {
            Ok(value) => text::result_text(&value),
            Err(exception) => format!("Error during execution: {exception}"),
        }
    }

    /// Runs commands written as in a shell, each argument a `str`; answers with the last result.
    fn run(files: &mut dyn ApiClass, commands: &[&str]) -> String {
        let mut last = String::new();
        for command in commands {
            let mut words = command.split(' ');
            let method = words.next().unwrap();
            let arguments: Vec<Value> = words.map(Value::from).collect();
            last = answer(files, method, &arguments);
        }
        last
    }

    #[test]
    fn a_path_shows_the_root() {
        let mut files = with_root(serde_json::json!({}));
        assert_eq!(run(&mut *files, &["mkdir a", "cd a", "pwd"]), r#"{"current_working_directory": "/home/a"}"#);
        assert_eq!(run(&mut *files, &["cd .."]), "{}");
        assert!(run(&mut *files, &["cd .."]).contains("already the root"));
        let mut files = with_context(serde_json::json!({}), &BfclContext::default()).unwrap();
        assert_eq!(run(&mut *files, &["pwd"]), r#"{"current_working_directory": "//"}"#);
    }

    #[test]
    fn moved_children_keep_their_old_parent() {
        let mut files = with_root(serde_json::json!({}));
        run(&mut *files, &["mkdir a", "cd a", "mkdir b", "cd ..", "mv a c", "cd c", "cd b"]);
        assert_eq!(run(&mut *files, &["pwd"]), r#"{"current_working_directory": "/home/a/b"}"#);
        // The old parent shares the moved directory's contents.
        assert_eq!(run(&mut *files, &["cd ..", "touch x"]), "None");
        assert_eq!(run(&mut *files, &["cd /", "find ./ x"]), r#"{"matches": ["./c/x"]}"#);
    }

    #[test]
    fn copies_are_shallow() {
        let mut files = with_root(serde_json::json!({"a": {"type": "directory", "contents": {
            "f": {"type": "file", "content": "old"}, "d": {"type": "directory", "contents": {}}}}}));
        run(&mut *files, &["cp a b", "cd a", "echo new f", "rm d", "cd ..", "cd b"]);
        assert_eq!(run(&mut *files, &["cat f"]), r#"{"file_content": "new"}"#);
        assert_eq!(answer(&mut *files, "ls", &[Value::None]), r#"{"current_directory_content": ["f", "d"]}"#);
    }

    #[test]
    fn a_copy_over_something_is_an_exception() {
        let mut files = with_root(serde_json::json!({}));
        run(&mut *files, &["touch f", "mkdir d", "cp f d"]);
        let message = "Error during execution: File 'f' already exists in directory 'd'.";
        assert_eq!(run(&mut *files, &["cp f d"]), message);
        assert_eq!(run(&mut *files, &["mv f d"]), r#"{"error": "mv: cannot move 'f' to 'd/f': File exists"}"#);
    }

    #[test]
    fn directories_may_contain_themselves() {
        let make = || {
            let mut files = with_root(serde_json::json!({}));
            run(&mut *files, &["mkdir a", "cp a a"]);
            files
        };
        let (mut files, other) = (make(), make());
        assert!(files.same_state(&*other));
        assert!(text::repr(&Value::Dict(Arc::new(files.state()))).contains("…"));
        for call in [answer(&mut *files, "du", &[Value::None]), run(&mut *files, &["find . x"])] {
            assert!(call.contains("maximum recursion depth exceeded"), "{call}");
        }
        run(&mut *files, &["cd a", "touch x"]);
        assert!(!files.same_state(&*other));
    }

    #[test]
    fn shared_directories_do_not_multiply_the_work() {
        let make = || {
            let mut files = with_root(serde_json::json!({"a": {"type": "directory", "contents": {
                "f": {"type": "file", "content": "x"}}}}));
            for _ in 0..40 {
                run(&mut *files, &["cp a b", "mkdir c", "mv a c", "mv b c", "mv c a"]);
            }
            files
        };
        let (mut files, other) = (make(), make());
        assert!(files.same_state(&*other));
        assert_eq!(answer(&mut *files, "du", &[Value::None]), format!(r#"{{"disk_usage": "{} bytes"}}"#, 1_u64 << 40));
        assert_eq!(run(&mut *files, &["find . f"]), "Error during execution: ");
        files.state();
    }

    #[test]
    fn order_does_not_matter_but_kind_does() {
        let mut one = with_root(serde_json::json!({}));
        let mut other = one.boxed_clone();
        run(&mut *one, &["touch a", "touch b"]);
        run(&mut *other, &["touch b", "touch a"]);
        assert!(one.same_state(&*other));
        run(&mut *other, &["rm a", "mkdir a", "cd a"]);
        assert!(!one.same_state(&*other));
    }

    #[test]
    fn any_tuple_is_a_name() {
        let mut files = with_root(serde_json::json!({}));
        let name = Value::tuple([Value::int(1)]);
        assert_eq!(answer(&mut *files, "mkdir", std::slice::from_ref(&name)), "None");
        let message = "Error during execution: 'tuple' object has no attribute 'startswith'";
        assert_eq!(answer(&mut *files, "ls", &[Value::Bool(false)]), message);
        assert_eq!(answer(&mut *files, "mkdir", &[Value::list([])]), "Error during execution: unhashable type: 'list'");
        assert_eq!(
            answer(&mut *files, "mkdir", &[Value::int(5)]),
            "Error during execution: argument of type 'int' is not iterable"
        );
    }

    #[test]
    fn tails_take_any_number() {
        let mut files = with_root(serde_json::json!({"f": {"type": "file", "content": "1\n2\r3\u{2028}4"}}));
        let mut tail = |lines: Value| answer(&mut *files, "tail", &["f".into(), lines]);
        assert_eq!(tail(Value::int(2)), r#"{"last_lines": "3\n4"}"#);
        assert_eq!(tail(Value::int(0)), r#"{"last_lines": "1\n2\n3\n4"}"#);
        assert_eq!(tail(Value::int(-3)), r#"{"last_lines": "4"}"#);
        assert_eq!(tail(Value::int(-i128::MAX)), r#"{"last_lines": ""}"#);
        assert_eq!(tail(Value::Float(9.5)), r#"{"last_lines": "1\n2\n3\n4"}"#);
        assert!(tail(Value::Float(2.0)).contains("slice indices must be integers"));
    }

    #[test]
    fn long_context_fills_files_and_leaves() {
        let constants = [
            ("FILES_TAIL_USED".to_owned(), Value::list(["log.txt".into()])),
            ("FILE_CONTENT_EXTENSION".to_owned(), "++".into()),
            ("POPULATE_FILE_EXTENSION".to_owned(), Value::list(["x.jpg".into()])),
        ];
        let context = BfclContext {
            long_context: Some(Arc::new(LongContext::from_constants(constants))),
            ..BfclContext::default()
        };
        let root = |content: serde_json::Value| {
            serde_json::json!({"root": {"home": {"type": "directory", "contents": {
                "a": {"type": "file", "content": content},
                "log.txt": {"type": "file", "content": "a"}}}}})
        };
        let files = with_context(root("a".into()), &context).unwrap();
        assert_eq!(
            text::repr(files.state().get("root").unwrap()),
            "{'home': {'type': 'directory', 'contents': {'a': {'type': 'file', 'content': 'a++'}, \
             'log.txt': {'type': 'file', 'content': 'a'}, 'x.jpg': {'type': 'file', 'content': ''}}}}"
        );
        let refusal = with_context(root(5.into()), &context).err().unwrap();
        assert_eq!(refusal.message, "unsupported operand type(s) for +=: 'int' and 'str'");
    }
}
