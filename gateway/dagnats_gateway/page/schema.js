// JSON Schema as people read it: a type in words, rows of fields, and a value to begin with.

import { h, inline } from "./dom.js";

const DEPTH_MAX = 6;

export class Schemas {
  constructor(components) {
    this.components = components;
  }

  resolve(schema) {
    return schema.$ref ? { ...this.components[schema.$ref.split("/").pop()], ...schema } : schema;
  }

  // Arms of a choice, without null; a schema that is no choice is its own only arm.
  arms(schema) {
    return (schema.anyOf ?? schema.oneOf ?? [schema]).filter((arm) => arm.type !== "null");
  }

  isNullable(schema) {
    return (schema.anyOf ?? []).some((arm) => arm.type === "null");
  }

  typeName(schema) {
    const names = this.arms(schema).map((arm) => {
      if (arm.$ref) return arm.$ref.split("/").pop();
      if (arm.enum) return "one of";
      if (arm.type === "array") return `${arm.items ? this.typeName(arm.items) : "any"}[]`;
      if (arm.contentEncoding) return arm.contentEncoding;
      return arm.type ?? "any JSON";
    });
    return names.join(" or ") + (this.isNullable(schema) ? " or null" : "");
  }

  rules(schema) {
    const found = [];
    for (const arm of this.arms(schema)) {
      if (arm.enum) found.push(...arm.enum.map((value) => h("code", {}, String(value))), " ");
      const range = (low, high, unit) => {
        if (arm[low] != null && arm[high] != null) found.push(`${arm[low]} to ${arm[high]}${unit} `);
        else if (arm[high] != null) found.push(`at most ${arm[high]}${unit} `);
        else if (arm[low] > 0) found.push(`at least ${arm[low]}${unit} `);
      };
      range("minimum", "maximum", "");
      range("minLength", "maxLength", " characters");
      range("minItems", "maxItems", " items");
      if (arm.pattern) found.push(h("code", { class: "pattern" }, arm.pattern), " ");
    }
    if (schema.default != null && schema.default !== "" && JSON.stringify(schema.default) !== "[]")
      found.push("default ", h("code", {}, JSON.stringify(schema.default)));
    return found;
  }

  // One field: its name, what it is, and, folded, the fields within it.
  field(name, schema, required, depth = 0, description = null) {
    const words = description ?? schema.description ?? this.arms(schema).map((arm) => arm.description).find(Boolean);
    const rules = this.rules(schema);
    const row = [
      h("div", { class: "field-head" },
        h("code", { class: "name" }, name), h("span", { class: "type" }, this.typeName(schema)),
        required ? h("span", { class: "required" }, "required") : ""),
      words ? h("div", { class: "words" }, inline(words)) : "",
      rules.length ? h("div", { class: "rules" }, rules) : "",
    ];
    const inner = this.inner(schema);
    if (!inner || depth >= DEPTH_MAX) return h("div", { class: "field" }, row);
    return h("details", { class: "field" }, h("summary", {}, row), this.fields(inner, depth + 1));
  }

  // The object within a field: itself, an arm of it, or what its list holds.
  inner(schema) {
    for (const arm of this.arms(schema)) {
      const target = this.resolve(arm.type === "array" && arm.items ? arm.items : arm);
      const objects = this.arms(target).map((each) => this.resolve(each)).filter((each) => each.properties);
      if (objects.length) return objects[0];
    }
    return null;
  }

  fields(schema, depth = 0) {
    const required = new Set(schema.required ?? []);
    const rows = Object.entries(schema.properties ?? {});
    if (!rows.length) return h("p", { class: "quiet" }, "no fields");
    return h("div", { class: "fields" }, rows.map(([name, each]) => this.field(name, each, required.has(name), depth)));
  }

  // A schema as a whole: the fields of an object, or one line for anything else.
  whole(schema) {
    const target = this.resolve(schema);
    if (target.properties) return this.fields(target);
    return h("p", { class: "words" }, this.typeName(schema), target.description ? [": ", inline(target.description)] : "");
  }

  // A value that a request can begin with: what is required, and lists with one item.
  sample(schema, depth = 0) {
    const target = this.resolve(this.arms(schema)[0] ?? {});
    if (target.default != null) return target.default;
    if (target.enum) return target.enum[0];
    if (target.properties && depth < DEPTH_MAX) {
      const names = Object.keys(target.properties).filter((name) => (target.required ?? []).includes(name));
      return Object.fromEntries(names.map((name) => [name, this.sample(target.properties[name], depth + 1)]));
    }
    if (target.type === "array") return target.items ? [this.sample(target.items, depth + 1)] : [];
    return { string: "", integer: target.minimum ?? 0, number: 0, boolean: false, object: {} }[target.type] ?? {};
  }
}
