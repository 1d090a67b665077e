//! The functions, structs and types of one Rust file, with their sizes and places.

use std::cmp::Ordering;

use proc_macro2::Span;
use syn::{
    Attribute, Block, Fields, ImplItemFn, ItemEnum, ItemFn, ItemImpl, ItemMod, ItemStruct, ItemTrait, ItemType,
    Signature, TraitItemFn, Type,
    spanned::Spanned as _,
    visit::{self, Visit},
};

/// Something with a name and a size, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) size: usize,
    /// A method's has its type in front.
    pub(super) name: String,
    pub(super) path: String,
    pub(super) line: usize,
}

impl Item {
    /// As an editor opens it.
    pub(super) fn place(&self) -> String {
        format!("{}:{}", self.path, self.line)
    }

    pub(super) fn largest_first(&self, other: &Self) -> Ordering {
        other.size.cmp(&self.size).then_with(|| (&self.path, self.line).cmp(&(&other.path, other.line)))
    }
}

/// What one file defines.
#[derive(Debug, Default)]
pub(super) struct Items {
    /// By lines, from the signature to the closing brace.
    pub(super) functions: Vec<Item>,
    /// By fields.
    pub(super) structs: Vec<Item>,
    /// Structs, enums, traits and aliases.
    pub(super) types: Vec<Item>,
}

impl Items {
    /// Reads a file. Without `with_tests`, whatever is compiled for tests only is left out.
    pub(super) fn read(path: &str, text: &str, with_tests: bool) -> syn::Result<Self> {
        let file = syn::parse_file(text)?;
        let mut reader = Reader { path, with_tests, of: String::new(), items: Self::default() };
        reader.visit_file(&file);
        Ok(reader.items)
    }
}

struct Reader<'text> {
    path: &'text str,
    with_tests: bool,
    /// The type whose methods are being read.
    of: String,
    items: Items,
}

impl Reader<'_> {
    fn item(&self, name: String, size: usize, at: Span) -> Item {
        Item { size, name, path: self.path.to_owned(), line: at.start().line }
    }

    fn function(&mut self, signature: &Signature, block: &Block) {
        let (from, to) = (signature.span().start().line, block.span().end().line);
        let of = if self.of.is_empty() { String::new() } else { format!("{}::", self.of) };
        let item = self.item(format!("{of}{}", signature.ident), to + 1 - from, signature.ident.span());
        self.items.functions.push(item);
    }

    fn named(&mut self, name: &syn::Ident) {
        let item = self.item(name.to_string(), 0, name.span());
        self.items.types.push(item);
    }

    fn is_left_out(&self, attributes: &[Attribute]) -> bool {
        !self.with_tests && attributes.iter().any(is_for_tests)
    }

    /// Reads what is inside of `of`.
    fn within(&mut self, of: String, read: impl FnOnce(&mut Self)) {
        let before = std::mem::replace(&mut self.of, of);
        read(self);
        self.of = before;
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !self.is_left_out(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if !self.is_left_out(&function.attrs) {
            self.function(&function.sig, &function.block);
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !self.is_left_out(&function.attrs) {
            self.function(&function.sig, &function.block);
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_trait_item_fn(&mut self, function: &'ast TraitItemFn) {
        if let Some(block) = &function.default {
            self.function(&function.sig, block);
        }
        visit::visit_trait_item_fn(self, function);
    }

    fn visit_item_impl(&mut self, block: &'ast ItemImpl) {
        if !self.is_left_out(&block.attrs) {
            self.within(type_name(&block.self_ty), |reader| visit::visit_item_impl(reader, block));
        }
    }

    fn visit_item_trait(&mut self, item: &'ast ItemTrait) {
        self.named(&item.ident);
        self.within(item.ident.to_string(), |reader| visit::visit_item_trait(reader, item));
    }

    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        if self.is_left_out(&item.attrs) {
            return;
        }
        self.named(&item.ident);
        // The fields of a tuple have no names to remember.
        if let Fields::Named(fields) = &item.fields {
            let item = self.item(item.ident.to_string(), fields.named.len(), item.ident.span());
            self.items.structs.push(item);
        }
    }

    fn visit_item_enum(&mut self, item: &'ast ItemEnum) {
        if !self.is_left_out(&item.attrs) {
            self.named(&item.ident);
        }
    }

    fn visit_item_type(&mut self, item: &'ast ItemType) {
        if !self.is_left_out(&item.attrs) {
            self.named(&item.ident);
        }
    }
}

/// `#[cfg(test)]` and `#[test]`.
fn is_for_tests(attribute: &Attribute) -> bool {
    let is_cfg_test = attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Ident>().is_ok_and(|condition| condition == "test");
    is_cfg_test || attribute.path().is_ident("test")
}

/// The last word of a type's path.
fn type_name(kind: &Type) -> String {
    match kind {
        Type::Path(path) => path.path.segments.last().map(|last| last.ident.to_string()).unwrap_or_default(),
        Type::Reference(reference) => type_name(&reference.elem),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "struct Point {\n    x: u8,\n    y: u8,\n}\nstruct Pair(u8, u8);\nenum Kind { A }\n\
        impl Point {\n    fn far(\n        &self,\n    ) {\n        fn inner() {}\n    }\n}\ntype Alias = u8;\n\
        trait Walk {\n    fn walk(&self) {}\n    fn run(&self);\n}\n\
        #[cfg(test)]\nmod tests {\n    struct Point;\n    #[test]\n    fn it() {}\n}\n";

    #[test]
    fn everything_has_its_size_and_place() {
        let read = |with_tests| Items::read("a/b.rs", TEXT, with_tests).unwrap();
        let shown = |items: &[Item]| -> Vec<String> {
            items.iter().map(|item| format!("{} {} {}", item.name, item.size, item.line)).collect()
        };
        let items = read(false);
        assert_eq!(shown(&items.functions), ["Point::far 5 8", "Point::inner 1 11", "Walk::walk 1 16"]);
        assert_eq!(shown(&items.structs), ["Point 2 1"]);
        assert_eq!(shown(&items.types), ["Point 0 1", "Pair 0 5", "Kind 0 6", "Alias 0 14", "Walk 0 15"]);
        assert_eq!(read(true).types.len(), 6);
        assert_eq!(read(true).functions.len(), 4);
        assert_eq!(items.functions.first().map(Item::place).as_deref(), Some("a/b.rs:8"));
        assert!(Items::read("a/b.rs", "fn {", false).is_err());
    }
}
