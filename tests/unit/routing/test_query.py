"""A stored line as the rules see it."""

from routing.query import read_line


def test_a_query_belongs_to_the_workload_that_its_metadata_name_else_to_its_prompts_template() -> None:
    system = "You classify tickets of our customers into one of seven queues."
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "It does not print."}]
    query = read_line({"messages": messages, "metadata": {"workload": "old"}}, {"metadata": {"workload": "tickets"}})
    assert query.workload == "tickets", "the line's own metadata go before those of the body"
    assert read_line({"messages": messages, "metadata": {"workload": "old"}}, {}).workload == "old"
    assert read_line({"messages": messages, "metadata": {"workload": 7}}, {}).workload == ""
    other = read_line({"messages": [messages[0], {"role": "user", "content": "Where is my order?"}]}, {})
    assert query.template == other.template != ""
    assert read_line({"messages": [{"role": "system", "content": system + "!"}]}, {}).template != query.template
    assert read_line({"messages": [{"role": "system", "content": "Be brief."}]}, {}).template == ""
