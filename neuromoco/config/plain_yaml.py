"""YAML as settings need it: plain data of moderate size, each name once. To PyYAML, a few lines can be gigabytes."""

from __future__ import annotations

from typing import Any

import yaml

LONGEST = 1 << 16  # characters of a text; PyYAML reads some 50,000 a second
LARGEST = 1 << 18  # characters once every alias stands for what it names
DEEPEST = 40


class _Loader(yaml.SafeLoader):
    """Safe, of limited depth, and with an error for a name that is there twice."""

    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:  # before aliases are merged in, which may be overridden
            if isinstance(key, yaml.ScalarNode):
                if (key.tag, key.value) in seen:
                    raise ValueError(f"{key.value} is there twice")
                seen.add((key.tag, key.value))
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> Any:
    """Plain data from YAML.

    Raises:
        ValueError: no YAML, a name twice, or more than settings can be: too long, too deep, aliases of aliases.
    """
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text):,} characters; at most {LONGEST:,} are read")
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        _check_size(node)
        return loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from None
    # Of tags that do not fit, such as !!bool x, !!timestamp x or !!int "".
    except (KeyError, AttributeError, TypeError, IndexError, OverflowError):
        raise ValueError("a value that is not what its tag says") from None


def _check_size(top: Any) -> None:
    """Refuses aliases that would make more than `LARGEST` characters, or that are part of what they name."""
    sizes: dict[int, int | None] = {}

    def size(node: Any) -> int:
        if id(node) in sizes:
            if (known := sizes[id(node)]) is None:
                raise ValueError("an alias within what it names")
            return known
        sizes[id(node)] = None
        parts: Any = ()
        if isinstance(node, yaml.ScalarNode) and any("\ud800" <= character <= "\udfff" for character in node.value):
            raise ValueError("half a character, which no file can hold")
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = (part for pair in node.value for part in pair)
        own = 1 + (len(node.value) if isinstance(node, yaml.ScalarNode) else 0)
        sizes[id(node)] = total = own + sum(size(part) for part in parts)
        return total

    if (total := size(top)) > LARGEST:
        raise ValueError(f"its aliases stand for {total:,} characters; at most {LARGEST:,} are read")
