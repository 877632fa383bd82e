"""What a score card says, for people: sentences, tables and pictures, as a page and as a section of a model card."""
