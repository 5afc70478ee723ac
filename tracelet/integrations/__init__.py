"""What a framework needs beyond interception: one module a framework, none of which imports another's."""
