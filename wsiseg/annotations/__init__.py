"""Vector outlines and the formats that carry them."""
