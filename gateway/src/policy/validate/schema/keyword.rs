//! The keywords that a body can break, by which the log is told why it was refused.

/// Names each keyword and how it is written.
macro_rules! keywords {
    ($($variant:ident $text:literal)*) => {
        /// A keyword.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum Keyword { $($variant),* }

        impl Keyword {
            pub(super) const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }
        }
    };
}

keywords! {
    AdditionalItems "additionalItems"
    AdditionalProperties "additionalProperties"
    AllOf "allOf"
    AnyOf "anyOf"
    Const "const"
    Contains "contains"
    ContentEncoding "contentEncoding"
    ContentMediaType "contentMediaType"
    Dependencies "dependencies"
    DependentRequired "dependentRequired"
    DependentSchemas "dependentSchemas"
    Discriminator "discriminator"
    DynamicRef "$dynamicRef"
    Enum "enum"
    ExclusiveMaximum "exclusiveMaximum"
    ExclusiveMinimum "exclusiveMinimum"
    FalseSchema "false schema"
    Format "format"
    If "if"
    Items "items"
    MaxContains "maxContains"
    MaxItems "maxItems"
    MaxLength "maxLength"
    MaxProperties "maxProperties"
    Maximum "maximum"
    MinItems "minItems"
    MinLength "minLength"
    MinProperties "minProperties"
    Minimum "minimum"
    MultipleOf "multipleOf"
    Not "not"
    OneOf "oneOf"
    Pattern "pattern"
    Properties "properties"
    PropertyNames "propertyNames"
    ReadOnly "readOnly"
    RecursiveRef "$recursiveRef"
    Ref "$ref"
    Required "required"
    Type "type"
    UnevaluatedItems "unevaluatedItems"
    UnevaluatedProperties "unevaluatedProperties"
    UniqueItems "uniqueItems"
    WriteOnly "writeOnly"
}
